"""Ctrl-C in steps that must not be cut in two."""

import signal
import threading

import pytest

from saconv_surgeon.saving.interruptions import uninterrupted


def test_ctrl_c_waits_for_the_end_and_is_heeded_once():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        done.append("all")
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_that_was_there_is_asked(monkeypatch):
    came = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            assert came == []
        assert came == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_never_interrupted():
    done = []

    def work():
        with uninterrupted():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]
