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


def after_folding(outputs: Sequence[Path]) -> tuple[Step, ...]:
    """With what a folding saved: running it, and checking it."""
    steps = [Step("Saved", "\n".join(map(str, outputs)))]
    for path in outputs:
        if path.suffix == ".onnx":
            code = ["import onnxruntime", f"session = onnxruntime.InferenceSession({str(path)!r})"]
            code.append("outputs = session.run(None, {session.get_inputs()[0].name: batch.numpy()})")
        elif path.name.endswith(".aoti.pt2"):
            code = [
                "import torch",
                f"model = torch._inductor.aoti_load_package({str(path)!r})",
                "outputs = model(batch)",
            ]
        elif path.suffix == ".pt2":
            code = ["import torch", f"model = torch.export.load({str(path)!r}).module()", "outputs = model(batch)"]
        else:
            code = ["import torch", f"model = torch.load({str(path)!r}, weights_only=False)", "outputs = model(batch)"]
        steps.append(Step(f"To run {path.name}", "\n".join(code)))
    return tuple(steps)


def after_planning(model: str, output: Path | None, *, kept: bool) -> tuple[Step, ...]:
    """With a plan that was saved: converting by it."""
    if output is None:
        return ()
    steps = [Step("Saved", str(output))]
    if kept:
        steps.append(Step("Convert by it", _command("convert", model, "--plan", output, "-o", "converted")))
    return tuple(steps)


def _command(*parts: object) -> str:
    return shlex.join(["saconv-surgeon", *map(str, parts)])
