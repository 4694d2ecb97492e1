"""Which rounds count on a machine that does other work: waiting is imitated by sleep, work by a busy loop."""

import time

import numpy as np
import pytest
import torch

from saconv_surgeon.planning.undisturbed import ProcessorTime, undisturbed
from saconv_surgeon.profiling.timing.alternating_runs import Run, Samples
from saconv_surgeon.profiling.timing.time_models import threads

CPU = torch.device("cpu")


def meter(seconds):
    found = ProcessorTime()
    found.seconds = list(seconds)
    return found


def rounds(walls, used, n_threads=1, device=CPU):
    samples = [Samples((tuple(wall),)) for wall in walls]
    with threads(n_threads):
        return [series.tolist() for series in undisturbed(samples, [meter(own) for own in used], device)]


CALM = [0.010] * 12


def test_rounds_in_which_either_waited_are_left_out():
    a, b = [*CALM, 0.030, 0.010], [*CALM, 0.010, 0.030]
    used = [0.010] * 14
    assert rounds([a, b], [used, used]) == [CALM, CALM]


def test_the_processor_counts_if_hardly_any_round_was_calm():
    a, b = [0.030] * 14, [0.060] * 14
    assert rounds([a, b], [[0.010] * 14, [0.020] * 14]) == [[0.010] * 14, [0.020] * 14]


@pytest.mark.parametrize(("n_threads", "device"), [(2, CPU), (1, torch.device("meta"))])
def test_elsewhere_all_rounds_count(n_threads, device):
    a = [0.030] * 14
    assert rounds([a, a], [[0.010] * 14] * 2, n_threads, device) == [a, a]


def test_only_the_runs_that_were_measured_count_each_with_all_its_stages():
    noted = meter([9.0, 9.0, 0.001, 0.002, 0.003, 0.004])  # a run for warming up, then two of two stages
    samples = Samples(((0.1, 0.1), (0.1, 0.1)))
    assert np.allclose(noted.totals(samples), [0.003, 0.007])


def test_sleep_is_no_work():
    found = ProcessorTime()

    def busy():
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass

    for stage in (busy, lambda: time.sleep(0.03)):
        found.of(Run([stage])).stages[0]()
    assert found.seconds[0] >= 0.01
    assert found.seconds[1] < 0.01
