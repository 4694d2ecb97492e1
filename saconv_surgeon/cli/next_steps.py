"""What can be done next, for the reports in files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from saconv_surgeon.report.page import Step
from saconv_surgeon.saving.conversion_files import FILES
from saconv_surgeon.surgery.plan_file import PLAN


def after_converting(outputs: Sequence[Path], *, delta: bool) -> tuple[Step, ...]:
    """With what a conversion saved: training it, checking it, folding it."""
    folder = next((path for path in outputs if path.suffix not in FILES), None)
    saved = Step("Saved", "\n".join(map(str, outputs)))
    if folder is None:
        return (
            saved,
            Step("Folded for inference, once it is trained", _command("fold", outputs[0], "-o", "model.onnx")),
        )
    training = [
        "import saconv_surgeon as surgeon",
        f"model = surgeon.restore(build_your_model(), {str(folder)!r})",
        "optimizer = torch.optim.AdamW(surgeon.parameter_groups(model, lr=1e-3, weight_decay=1e-2))",
    ]
    if delta:
        training.insert(1, "# build_your_model() with the weights that it was converted with: the folder has the rest")
    weights = ("--weights", "trained.pt")
    again = _command("convert", folder, "--plan", folder / PLAN, *weights, "-o", "trained")
    looked_at = [again, _command("diff", folder, "trained")]
    return (
        saved,
        Step(
            "In your training script: the converted model, and a rate of their own for new parts", "\n".join(training)
        ),
        Step("What training has made of it, from its state dict", "\n".join(looked_at)),
        Step("For production", _command("fold", folder, *weights, "-o", "model.onnx")),
    )


def _command(*parts: object) -> str:
    return shlex.join(["saconv-surgeon", *map(str, parts)])
