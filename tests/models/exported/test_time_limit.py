"""Code without an end is ended."""

import subprocess
import sys
import threading
import time

import pytest

from saconv_surgeon.models.exported import time_limit as limits
from saconv_surgeon.models.exported.time_limit import OutOfTimeError, time_limit


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_it_ends():
    started = time.monotonic()
    with pytest.raises(OutOfTimeError) as raised, time_limit(0.1):
        spin(20)
    assert time.monotonic() - started < 10
    assert raised.value.seconds == 0.1


def test_what_is_in_time_is_left_alone():
    with time_limit(5):
        spin(0.01)
    spin(0.05)


def test_code_that_swallows_errors(monkeypatch):
    monkeypatch.setattr(limits, "AGAIN", 0.05)
    swallowed = 0
    with pytest.raises(OutOfTimeError), time_limit(0.05):
        for _ in range(2):
            try:
                spin(20)
            except BaseException:
                swallowed += 1
        spin(20)
    assert swallowed == 2


def test_in_another_thread():
    seen = []

    def work():
        try:
            with time_limit(0.1):
                spin(20)
        except OutOfTimeError as error:
            seen.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(15)
    assert len(seen) == 1


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), time_limit(5):
        1 / 0  # noqa: B018


@pytest.mark.parametrize("watch", ["setprofile", "settrace"])
def test_a_profiler_a_debugger_and_coverage_go_on(watch):
    """A request that the interpreter never fulfils makes it hang under them."""
    code = f"""
import sys, threading
from saconv_surgeon.models.exported.time_limit import time_limit
sys.{watch}(lambda *event: None)
for _ in range(3):
    with time_limit(5):
        pass
lock = threading.Lock()
for _ in range(1000):
    with lock:
        pass
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
