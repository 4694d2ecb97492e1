"""What can be done next, for the reports in files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from saconv_surgeon.report.page import Step
from saconv_surgeon.saving.conversion_files import FILES


def after_converting(name: str, outputs: Sequence[Path], *, delta: bool) -> tuple[Step, ...]:
    """With what a conversion saved: training it, checking it, folding it."""
    folder = next((path for path in outputs if path.suffix not in FILES), None)
    saved = Step("Saved", "\n".join(map(str, outputs)))
    if folder is None:
        return (
            saved,
            Step("Folded for inference, once it is trained", _command("fold", outputs[0], "-o", "model.onnx")),
        )
    original = "build_your_model()  # with the weights it was converted with" if delta else "build_your_model()"
    training = (
        "import saconv_surgeon as surgeon\n"
        f"model = surgeon.restore({original.partition('  #')[0]}, {str(folder)!r})"
        + (f"  # {original.partition('# ')[2]}" if delta else "")
        + "\noptimizer = torch.optim.AdamW(surgeon.parameter_groups(model, lr=1e-3, weight_decay=1e-2))"
    )
    return (
        saved,
        Step("In your training script: the converted model, and a rate of their own for new parts", training),
        Step("What training has made of it", _command("diff", name, folder)),
        Step(
            "For production, with the state dict of the training",
            _command("fold", folder, "--weights", "trained.pt", "-o", "model.onnx"),
        ),
    )


def _command(*parts: object) -> str:
    return shlex.join(["saconv-surgeon", *map(str, parts)])
