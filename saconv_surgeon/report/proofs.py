"""The proof of equivalence in words."""

from __future__ import annotations

from rich.text import Text

from saconv_surgeon.records import Equivalence
from saconv_surgeon.report import text


def proof(equivalence: Equivalence) -> Text:
    """The verdict of the proof in a line, and what is known where it is not a plain yes."""
    e = equivalence
    line = Text()
    if e.passed:
        line.append("✓ same outputs", style="bold green")
        line.append(
            ": bit-identical" if e.bit_equal else f": within {text.error(e.max_rel)} relative (allowed {e.tolerance:g})"
        )
    else:
        line.append("✗ outputs moved", style="bold red")
        line.append(f": {text.error(e.max_rel)} relative, {text.error(e.max_abs)} absolute (allowed {e.tolerance:g})")
    line.append(
        f", on {text.plural(e.trials, 'input')}, {text.plural(e.tensors, 'output tensor')}, {e.dtype} on {e.device}"
    )
    if e.mode == "train":
        line.append(", as in training and as in inference")
    if not e.deterministic:
        noise = text.error(e.noise_max_rel)
        line.append(
            f"\n  the model is not deterministic: it moves by {noise} relative from run to run, and was judged against that"
        )
    if e.first_moved is not None:
        line.append("\n  first layer that moves: ")
        line.append(e.first_moved, style="bold")
    if e.note is not None:
        line.append(f"\n  {e.note}")
    for problem in e.problems:
        line.append(f"\n  {problem}")
    return line
