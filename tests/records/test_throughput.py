"""Images per second, beside the latency."""

from dataclasses import replace

from saconv_surgeon.records import from_dict, to_dict
from saconv_surgeon.records.profile import Latency
from saconv_surgeon.report import human

LATENCY = Latency("cpu", 0.02, 0.03, 0.001, 0.019, 50, 5, 1, "wall", batch=8)


def test_it_is_the_batch_by_the_median():
    assert LATENCY.samples_per_s == 400
    assert replace(LATENCY, batch=None).samples_per_s is None
    written = to_dict(LATENCY)
    assert written["samples_per_s"] == 400
    assert from_dict(Latency, written) == LATENCY


def test_it_is_written_with_three_digits():
    assert human.rate(412.34) == "412/s"
    assert human.rate(5.1234) == "5.12/s"
    assert human.rate(12345) == "12.35 k/s"
    assert human.rate(None) == human.UNKNOWN
