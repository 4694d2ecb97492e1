"""The one message with which a file is refused: what was seen, what is needed, what to try."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from saconv_surgeon.errors import ModelError, UntrustedError
from saconv_surgeon.models.loading.missing_packages import how_to_get, missing_packages
from saconv_surgeon.models.pickles.looking import BARE
from saconv_surgeon.records.safety import SAFETY_RULES, Finding

RUNS_CODE = ("code", "operation", "opcode", "program")
"""The rules about what ``--trust`` allows."""
MOST_NAMED = 40


def refusal_of(path: Path, findings: Sequence[Finding], kind: str) -> ModelError:
    """The error for a file of which ``findings``, at least one, were made; ``kind`` is what it is."""
    names = [finding.message.removeprefix("it names ") for finding in findings if finding.rule == "code"]
    if names and kind == BARE:
        return UntrustedError(
            f"{path} is {kind}, which torch does not load, and it wants {', '.join(sorted(names)[:3])}; "
            f"{SAFETY_RULES['format'].advice}"
        )
    if names:
        left = len(names) - MOST_NAMED
        return UntrustedError(
            f"{path} is a pickle that runs code when it is loaded. It wants these classes:\n  "
            + "\n  ".join([*sorted(names)[:MOST_NAMED], *([f"and {left} more"] if left > 0 else [])])
            + "".join(f"\n{how_to_get(package)}" for package in missing_packages(names[:MOST_NAMED]))
            + "\nIf you trust whoever made the file, give --trust; "
            "or save a state dict and give the code as MODEL with --weights"
        )
    worst = next((finding for finding in findings if finding.rule in RUNS_CODE), findings[0])
    place = (
        f" ({worst.entry or 'byte'} {worst.offset})".replace("byte ", "at byte ") if worst.offset is not None else ""
    )
    text = f"{path} cannot be loaded: {worst.message}{place}; {SAFETY_RULES[worst.rule].advice}"
    return UntrustedError(text) if worst.rule in RUNS_CODE else ModelError(text)
