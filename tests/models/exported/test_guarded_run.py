"""The first run of a program: no operator reads beyond its tensors, or asks for more than there is."""

import json
import zipfile

import pytest
import torch
from torch import nn

from saconv_surgeon.errors import UntrustedError
from saconv_surgeon.models.exported import guarded_run
from saconv_surgeon.models.exported.guarded_run import run_guarded
from saconv_surgeon.models.running.inputs import Inputs
from tests.models.hostile_files import as_model, net, rezip

A = torch.ops.aten
ONE, FOUR = torch.ones(1), torch.ones(4)


class Calls(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.calls = forward

    def forward(self, *x):
        return self.calls(*x)


def run(forward, *x):
    with torch.no_grad():
        return run_guarded(Calls(forward), Inputs.of(x), "m.pt2")


WIDE = torch.ones(1, 1000, 2, 2)
TAKEN_FOR_GRANTED = {
    "statistics": lambda: A._native_batch_norm_legit_no_training(WIDE, ONE, ONE, ONE, ONE, 0.1, 1e-5),
    "statistics of the input": lambda: A.native_batch_norm(WIDE, ONE, ONE, None, None, True, 0.1, 1e-5),
    "lengths": lambda: A._weight_norm_interface(torch.ones(1000, 4), ONE, 0),
    "keys": lambda: A._scaled_dot_product_flash_attention_for_cpu(
        torch.ones(8, 8, 40, 8), torch.ones(1, 1, 40, 8), torch.ones(1, 1, 40, 8)
    ),
    "scales": lambda: A._upsample_bilinear2d_aa(torch.ones(1, 1, 4, 4), [10, 10], False, 1e-7, 1e-7),
    "axes": lambda: A._fft_c2r(torch.ones(4, 4, dtype=torch.complex64), [0, 7], 0, 4),
    "modes": lambda: A.grid_sampler_2d(torch.ones(1, 1, 4, 4), torch.zeros(1, 2, 2, 2), 77, 0, False),
    "the smallest number": lambda: A.div.Tensor_mode(
        torch.tensor([-(2**63)]), torch.tensor([-1]), rounding_mode="trunc"
    ),
}


@pytest.mark.parametrize("call", TAKEN_FOR_GRANTED.values(), ids=TAKEN_FOR_GRANTED.keys())
def test_arguments_that_an_operator_does_not_look_at(call):
    with pytest.raises(UntrustedError, match=r"m\.pt2 would do more .* --trust"):
        run(lambda x: call(), FOUR)


MUCH = 2**32  # values: 16 GiB
TOO_MUCH = {
    "full": lambda x: A.full([MUCH], 1.0),
    "zeros": lambda x: A.zeros([MUCH]),
    "empty": lambda x: A.empty.memory_format([MUCH]),
    "arange": lambda x: A.arange(MUCH),
    "repeat": lambda x: A.repeat(x, [MUCH]),
    "new_zeros": lambda x: A.new_zeros(x, [MUCH]),
    "expanded and copied": lambda x: A.clone(A.expand(x[:1], [2**27]).view(1, -1).expand(64, -1)),
    "only expanded": lambda x: A.expand(x[:1], [2**60]).sum(),
    "an outer product": lambda x: A.expand(x[:1], [2**16])[:, None] * A.expand(x[:1], [2**17])[None],
    "a product": lambda x: A.mm(x[:1, None].expand(2**17, 1), x[None, :1].expand(1, 2**17)),
    "enlarged": lambda x: A.upsample_nearest2d(x[:1].view(1, 1, 1, 1), [2**16, 2**17]),
    "padded": lambda x: A.constant_pad_nd(x, [0, MUCH]),
    "random": lambda x: A.randn([MUCH]),
    "indices": lambda x: A.tril_indices(2**17, 2**17),
    "windows": lambda x: A.im2col(x.expand(1, 1, 2**12, 4), [2**11, 1], [1, 1], [2**12, 2**12], [1, 1]),
    "repeats": lambda x: A.repeat_interleave.Tensor(torch.tensor([2**33])),
    "bins": lambda x: A.bincount(torch.tensor([2**33])),
    "parts": lambda x: A.split.Tensor(x[:1].expand(2**24), 1),
    "rows": lambda x: A.unbind.int(x[:1].expand(2**24)),
    "kept": lambda x: [A.full([2**28], 1.0) for _ in range(8)],
}


@pytest.mark.parametrize("call", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_more_memory_than_any_model(call):
    if call is TOO_MUCH["kept"]:
        real, peak = A.full, []

        def small(sizes, value):
            peak.append(1)
            return real([2**20], value)

        guarded, limit = guarded_run.LEAST_MEMORY, 2**24
        guarded_run.LEAST_MEMORY = limit
        try:
            with pytest.raises(UntrustedError, match="GiB"):
                run(lambda x: [small(None, 1.0) for _ in range(8)], FOUR)
        finally:
            guarded_run.LEAST_MEMORY = guarded
        assert 3 < len(peak) < 6  # four of 4 MiB fit into 16
        return
    with pytest.raises(UntrustedError):
        run(call, FOUR)


def test_memory_that_was_given_back_can_be_used_again(monkeypatch):
    monkeypatch.setattr(guarded_run, "LEAST_MEMORY", 2**24)

    def forward(x):
        for _ in range(20):
            x = A.full([2**20], 1.0).sum()
        return x

    assert run(forward, FOUR) == 2**20


def test_more_work_than_any_model():
    with pytest.raises(UntrustedError, match="operations"):
        run(lambda x: A.mm(x[:1, None].expand(2**14, 2**16), x[:1, None].expand(2**16, 2**14)), FOUR)


def test_time_has_an_end(monkeypatch):
    monkeypatch.setattr(guarded_run, "LONGEST", -1.0)
    with pytest.raises(UntrustedError, match="has not finished"):
        run(lambda x: x + 1, FOUR)


def test_sizes_below_zero():
    with pytest.raises(UntrustedError, match="negative"):
        run(lambda x: A._adaptive_avg_pool2d(x.view(1, 1, 2, 2), [-3, 0]), FOUR)


def test_parts_that_are_called_are_watched():
    def then(x):
        return A.full([MUCH], 1.0).sum() + x

    with pytest.raises(UntrustedError, match="GiB"):
        run(lambda x: torch.cond(x.sum() > 0, Calls(then), Calls(lambda x: x + 1), (x,)), FOUR)


def test_a_model_is_run_as_it_is():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(5))
    )
    x = torch.randn(2, 3, 20, 20)
    model(x)
    model.eval()
    with torch.no_grad():
        assert torch.equal(run_guarded(model, Inputs.of(x), "m"), model(x))


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("repeat.default", {"repeats": {"as_ints": [2**16, 1, 1, 2**16]}}),
        ("as_strided.default", {"size": {"as_ints": [10**8]}, "stride": {"as_ints": [1]}}),
        ("upsample_nearest2d.default", {"output_size": {"as_ints": [2**18, 2**18]}}),
    ],
)
def test_on_the_command_line(place, target, arguments):
    torch.export.save(torch.export.export(net(), (torch.ones(1, 2, 9, 9),)), place / "net.pt2")
    with zipfile.ZipFile(place / "net.pt2") as archive:
        name = next(n for n in archive.namelist() if n.endswith("models/model.json"))
        content = json.loads(archive.read(name))
    nodes = content["graph_module"]["graph"]["nodes"]
    nodes[-1]["target"] = f"torch.ops.aten.{target}"
    first = {"name": "self", "arg": nodes[-2]["outputs"][0], "kind": 1}
    nodes[-1]["inputs"] = [first, *({"name": name, "arg": value, "kind": 1} for name, value in arguments.items())]
    rezip(place / "net.pt2", place / "evil.pt2", replace={name: json.dumps(content)})
    assert "evil.pt2" in as_model(place, "evil.pt2")
