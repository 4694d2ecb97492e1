"""Timing with a clock that the test turns: the order of the calls, what is measured and what is said of it."""

import pytest
import torch

from saconv_surgeon.profiling.timing.alternating_runs import Run, Samples, latency_of, measure

CPU = torch.device("cpu")


class Clock:
    """Time passes only when a call spends it."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def spending(self, name, seconds):
        def call():
            self.order.append(name)
            self.now += seconds() if callable(seconds) else seconds

        return Run([call])


def test_calls_alternate_and_the_order_turns():
    clock = Clock()
    calls = [clock.spending("A", 0.1), clock.spending("B", 0.2)]
    samples = measure(calls, CPU, budget_s=3.0, warmup_s=0.0, min_warmup=1, clock=clock)
    assert "".join(clock.order[2:10]) == "ABBAABBA"
    assert list(samples[0].totals) == pytest.approx([0.1] * 10)
    assert list(samples[1].totals) == pytest.approx([0.2] * 10)


def test_warm_up_is_not_measured():
    clock, first = Clock(), iter([5.0])
    call = clock.spending("A", lambda: next(first, 0.01))
    samples = measure([call], CPU, budget_s=0.5, warmup_s=0.0, min_warmup=2, clock=clock)
    assert max(samples[0].totals) < 0.02


def test_slow_calls_run_at_least_three_times_and_fast_ones_fill_the_budget():
    for seconds, least, most in ((10.0, 3, 3), (0.001, 400, 600)):
        clock = Clock()
        runs = measure([clock.spending("A", seconds)], CPU, budget_s=0.5, warmup_s=0.0, min_warmup=1, clock=clock)[0]
        assert least <= len(runs.totals) <= most


def test_progress_grows_to_the_end():
    clock, seen = Clock(), []
    measure([clock.spending("A", 0.1)], CPU, budget_s=1.0, warmup_s=0, min_warmup=1, clock=clock, on_run=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_latency_figures():
    found = latency_of(Samples((tuple(0.01 * i for i in range(1, 12)),), warmup_n=3), CPU)
    assert (found.median_s, found.min_s, found.n) == (pytest.approx(0.06), pytest.approx(0.01), 11)
    assert found.p90_s == pytest.approx(0.10)
    assert found.iqr_s == pytest.approx(0.05)
    assert (found.device, found.clock, found.warmup_n) == ("cpu", "wall clock", 3)


def samples(values, enqueue=()):
    return Samples((tuple(values),), tuple(enqueue), warmup_n=3)


def test_percentiles_need_their_numbers():
    for n, known in ((9, ()), (10, ("p90_s",)), (20, ("p90_s", "p95_s")), (100, ("p90_s", "p95_s", "p99_s"))):
        found = latency_of(samples([1.0] * n), CPU)
        assert tuple(name for name in ("p90_s", "p95_s", "p99_s") if getattr(found, name) is not None) == known


@pytest.mark.parametrize(
    ("values", "enqueue", "flags"),
    [
        ([1.0] * 20, (), ()),
        ([1.0] * 5, (), ("few-runs",)),
        ([0.8, 1.0, 1.2] * 10, (), ("spread",)),
        ([1.0] * 10 + [1.2] * 10, (), ("spread", "drift")),
        ([1.0] * 20, [0.79] * 20, ()),
        ([1.0] * 20, [0.81] * 20, ("enqueue-bound",)),
    ],
)
def test_flags(values, enqueue, flags):
    assert latency_of(samples(values, enqueue), CPU).flags == flags


def test_outliers_are_kept():
    found = latency_of(samples([1.0] * 99 + [50.0]), CPU)
    assert (found.n, found.median_s) == (100, 1.0)
    assert found.p99_s > 1.0


def test_stages_are_timed_apart_and_the_first_call_by_itself():
    clock, first = Clock(), iter([7.0])
    forward, backward = clock.spending("F", lambda: next(first, 0.1)), clock.spending("B", 0.2)
    prepared = clock.spending("P", 5.0)
    run = Run([*forward.stages, *backward.stages], prepare=prepared.stages[0])
    (found,) = measure([run], CPU, budget_s=1.0, warmup_s=0.0, min_warmup=2, clock=clock)
    assert found.first_s == pytest.approx(7.2)
    assert found.warmup_n == 2
    assert list(found.stages[0]) == pytest.approx([0.1] * len(found.totals))
    assert list(found.stages[1]) == pytest.approx([0.2] * len(found.totals))
    assert list(found.totals) == pytest.approx([0.3] * len(found.totals))


class Device:
    """A GPU on paper: the host hands over work and goes on, until the queue is full; events note when the device gets there."""

    QUEUE_S = 0.05

    def __init__(self, monkeypatch):
        self.host = self.device = 0.0
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: self.wait())
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Event(self))

    def __call__(self):
        return self.host

    def wait(self):
        self.host = max(self.host, self.device)

    def working(self, host_s, device_s):
        def call():
            self.host = max(self.host + host_s, self.device - self.QUEUE_S)
            self.device = max(self.device, self.host) + device_s

        return Run([call])


class Event:
    def __init__(self, device):
        self.device = device

    def record(self, stream):
        self.at = max(self.device.device, self.device.host)

    def elapsed_time(self, other):
        return 1000 * (other.at - self.at)


def test_device_times_and_who_waits_for_whom(monkeypatch):
    device = Device(monkeypatch)
    runs = [device.working(host_s=0.001, device_s=0.010), device.working(host_s=0.001, device_s=0.0001)]
    heavy, light = measure(runs, torch.device("cuda"), budget_s=2.0, clock=device)
    bound_by_work, bound_by_launches = (latency_of(found, torch.device("cuda")) for found in (heavy, light))
    assert bound_by_work.clock == "CUDA events"
    assert bound_by_work.median_s == pytest.approx(0.010, rel=0.2)
    assert bound_by_work.enqueue_s == pytest.approx(0.001)  # although the full queue made the host wait meanwhile
    assert bound_by_work.flags == ()
    (alone,) = measure(
        [device.working(host_s=0.001, device_s=0.0001)], torch.device("cuda"), budget_s=2.0, clock=device
    )
    assert latency_of(alone, torch.device("cuda")).flags == ("enqueue-bound",)
    assert bound_by_launches.enqueue_s == pytest.approx(0.001)


@pytest.mark.gpu
def test_cuda_events_and_enqueue_time():
    device, x = torch.device("cuda"), torch.randn(4096, 4096, device="cuda")
    heavy, light = measure([Run([lambda: x @ x @ x]), Run([lambda: x[:1] + 1])], device, budget_s=0.5)
    assert latency_of(heavy, device).clock == "CUDA events"
    assert sum(heavy.totals) > 2 * sum(light.totals)
    assert len(heavy.enqueue) == len(light.enqueue) > 0
    assert "enqueue-bound" not in latency_of(heavy, device).flags
    assert "enqueue-bound" in latency_of(light, device).flags
