"""The proof in words."""

from saconv_surgeon.records import Equivalence
from saconv_surgeon.report.sections.proof import proof

FOUND = Equivalence(True, True, 0.0, 0.0, 1e-5, 3, 1, dtype="float32", device="cpu")


def words(**changes):
    return "\n".join(line.text for line in proof(Equivalence(**{**vars(FOUND), **changes})))


def test_says_how_many_inputs_differed():
    assert "on 3 inputs" in words(different_inputs=3)
    assert "redraw" not in words(different_inputs=3)
    assert "on 1 input, 1 output tensor" in words(different_inputs=1)
    assert "of 3 inputs that were asked for, 1 could be had that differ" in words(different_inputs=1)
    assert "--redraw file.py:make" in words(different_inputs=2)


def test_records_without_the_figure_and_of_train_mode():
    assert "on 3 inputs" in words()
    assert "redraw" not in words()
    assert "redraw" not in words(mode="train", trials=4, different_inputs=3)
    assert "redraw" in words(mode="train", trials=4, different_inputs=2)


def test_redraw_that_gave_the_same_is_not_told_to_use_redraw():
    told = words(different_inputs=1, redrawn=True)
    assert "--redraw returned inputs again that were there already" in told
    assert "can be drawn" not in told
    assert "makes others" not in told
    assert "returned" not in words(different_inputs=1)
