"""The proof that two models compute the same, in words."""

from __future__ import annotations

from saconv_surgeon.records import Equivalence
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import Line, Span, led, line


def proof(equivalence: Equivalence) -> list[Line]:
    """The verdict, then what is known if it is not a plain yes."""
    e = equivalence
    different = e.trials if e.different_inputs is None else e.different_inputs
    inputs, outputs = human.plural(different, "input"), human.plural(e.tensors, "output tensor")
    where = f", on {inputs}, {outputs}, {e.dtype} on {e.device}"
    where += ", as in training and as in inference" if e.mode == "train" else ""
    lines = [_verdict(e, where)]
    wanted = e.trials - (e.mode == "train")  # one more, on the first input, as in inference
    if different < wanted:
        why = (
            "--redraw returned inputs again that were there already, and has to return others for each trial"
            if e.redrawn
            else "nothing else of the kind can be drawn, or the model refuses it; --redraw file.py:make makes others"
        )
        asked = human.plural(wanted, "input")
        lines.append(line(f"of {asked} that were asked for, {different} could be had that differ: {why}", indent=2))
    if not e.deterministic:
        noise = human.error(e.noise_max_rel)
        lines.append(
            line(
                f"the model is not deterministic: it moves by {noise} relative from run to run, and was judged against that",
                indent=2,
            )
        )
    if e.first_moved is not None:
        lines.append(Line((Span("first layer that moves: "), Span(e.first_moved, "strong")), indent=2))
    lines += [line(e.note, indent=2)] if e.note is not None else []
    return [*lines, *(line(problem, indent=2) for problem in e.problems)]


def _verdict(e: Equivalence, where: str) -> Line:
    if e.passed:
        how = "bit-identical" if e.bit_equal else f"within {human.error(e.max_rel)} relative (allowed {e.tolerance:g})"
        return led("same outputs", f": {how}{where}", "good", mark="✓")
    how = f"{human.error(e.max_rel)} relative, {human.error(e.max_abs)} absolute (allowed {e.tolerance:g})"
    return led("outputs moved", f": {how}{where}", "bad", mark="✗")
