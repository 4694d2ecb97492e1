"""Runs a function in several real processes that talk over gloo, and gives what each of them returned."""

import os
import socket
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def together(function, *arguments, ranks=2):
    """What ``function(rank, *arguments)`` returned in each of ``ranks`` processes, in the order of the ranks."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_run, (ranks, _free_port(), folder, function, arguments), nprocs=ranks, join=True)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(ranks)]


def _run(rank, ranks, port, folder, function, arguments):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(ranks)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    try:
        torch.save(function(rank, *arguments), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
