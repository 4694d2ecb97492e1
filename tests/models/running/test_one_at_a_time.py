"""Calls from several threads, and what holds for the whole process."""

import multiprocessing
import random
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon import Timing
from saconv_surgeon.models.running.one_at_a_time import one_at_a_time
from tests import nets
from tests.verbs import VERBS

X = torch.randn(2, 3, 12, 12)


def model():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))


def process():
    """Everything that a call could leave changed."""
    return {
        "mha": torch.backends.mha.get_fastpath_enabled(),
        "cudnn": [getattr(torch.backends.cudnn, n) for n in ("enabled", "benchmark", "deterministic", "allow_tf32")],
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "threads": torch.get_num_threads(),
        "warnings": list(warnings.filters),
        "hooks": [
            len(h) for k, h in vars(nn.modules.module).items() if k.startswith("_global_") and isinstance(h, dict)
        ],
        "random": (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),
        "call": (nn.Module.__call__, nn.Module.__getattr__, nn.Module.register_parameter, torch.compile),
    }


def in_threads(n, work):
    """What each gave or raised."""
    results = [None] * n

    def run(i):
        try:
            results[i] = work(i)
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def test_results_in_threads_are_those_of_one_after_another():
    models = [model() for _ in range(4)]

    def work(i):
        conversion = surgeon.convert(models[i], X, trials=1)
        profile = surgeon.profile(conversion.model, X, timing=None)
        folding = surgeon.fold(conversion.model, X, trials=1)
        return conversion.equivalence.bit_equal, profile.macs, profile.fvcore_flops, folding.equivalence.passed

    wanted, before = work(0), process()
    assert in_threads(4, work) == [wanted] * 4
    assert process() == before


def test_calls_do_not_overlap():
    inside, most = [], []

    @one_at_a_time
    def call(i):
        inside.append(i)
        most.append(len(inside))
        threading.Event().wait(0.01)
        inside.remove(i)

    in_threads(5, call)
    assert most == [1] * 5


def test_callback_may_call():
    seen = []

    def on_step(step, done):
        if not seen:
            seen.append(len(surgeon.inspect(model(), X)))

    surgeon.convert(model(), X, on_step=on_step)
    assert seen == [2]


def test_forked_child_of_a_busy_process_can_call():
    """Another thread holds the lock while the process forks; it does not exist in the child."""
    held, done = threading.Event(), threading.Event()

    @one_at_a_time
    def hold():
        held.set()
        done.wait(60)

    @one_at_a_time
    def child(answers):
        answers.put("called")

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        forked = context.Process(target=child, args=(answers,))
        forked.start()
    forked.join(30)
    exited = forked.exitcode
    if exited is None:
        forked.kill()
    done.set()
    holder.join(60)
    assert exited == 0
    assert answers.get() == "called"


@pytest.mark.parametrize("verb", VERBS)
def test_process_is_left_as_it_was(verb):
    torch.backends.cudnn.allow_tf32 = True
    subject = model()
    before = process()
    VERBS[verb](subject, X)
    assert process() == before


class Rude(nn.Module):
    """Changes settings of the process, and fails."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        torch.set_default_dtype(torch.float64)
        torch.backends.mha.set_fastpath_enabled(False)
        torch.backends.cudnn.allow_tf32 = False
        torch.use_deterministic_algorithms(True)
        torch.set_grad_enabled(False)
        warnings.simplefilter("ignore", FutureWarning)
        nn.modules.module.register_module_forward_hook(lambda *_: None)
        random.seed(1)
        np.random.seed(1)
        raise ArithmeticError("rude")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "fold"])
def test_process_is_left_as_it_was_when_a_model_raises(verb):
    subject = Rude()
    before = process()
    with pytest.raises(Exception, match="rude"):
        VERBS[verb](subject, X)
    assert process() == before


# ------------------------------------------------------------------ inference mode


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("built_inside", [True, False])
def test_every_verb_in_inference_mode(verb, built_inside):
    plain, x = model(), X
    with torch.inference_mode():
        subject = model() if built_inside else plain
        inputs = torch.randn(2, 3, 12, 12) if built_inside else x
        VERBS[verb](subject, inputs)
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("built_inside", [True, False])
def test_what_is_made_in_inference_mode_can_be_trained_outside(built_inside, tmp_path):
    outside = model()
    with torch.inference_mode():
        subject = model() if built_inside else outside
        conversion = surgeon.convert(subject, torch.randn(2, 3, 12, 12))
        applied = surgeon.apply(subject, conversion.plan)
        surgeon.save(conversion, tmp_path / "out")
        restored = surgeon.restore(subject, tmp_path / "out")
        reverted = surgeon.revert(conversion.model)
    assert conversion.equivalence.bit_equal
    for made in (conversion.model, applied, restored, reverted):
        made.train()(X).square().sum().backward()
        assert all(p.grad is not None for p in made.parameters() if p.requires_grad and p.dim() == 4)
        assert not any(t.is_inference() for t in (*made.parameters(), *made.buffers()))


def test_folded_in_inference_mode_and_profiled_outside():
    with torch.inference_mode():
        folding = surgeon.fold(surgeon.convert(model(), X).model, X)
    assert folding.equivalence.passed
    assert surgeon.profile(folding.model, X, timing=Timing(budget_s=0.02)).latency.n >= 3


def test_no_grad_outside_stays():
    with torch.no_grad():
        surgeon.convert(nets.chain(), torch.randn(1, 3, 16, 16))
        assert not torch.is_grad_enabled()
