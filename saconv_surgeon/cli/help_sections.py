"""``--help`` in sections: an option says which it belongs to. Imports no torch."""

from __future__ import annotations

from typing import Any

import click

SECTIONS = (
    "Save",
    "Model",
    "Input",
    "What to convert",
    "Choose for a budget",
    "Fold",
    "Proof",
    "Measure",
    "Report",
    "Other",
)
"""In the order in which they are shown."""
FORMS = (
    ("timm:resnet50", "A library's model: timm:, torchvision:, smp:, ultralytics:yolo11n.yaml, transformers:FOLDER."),
    ("nets.py:build", "A function or class that returns the model; also my.pkg.nets:make(depth=18)."),
    ("FOLDER", "What an earlier convert wrote."),
    ("model.pt2", "An exported program."),
    ("model.pt", "A pickled model or checkpoint, with --trust."),
)
"""What MODEL can be."""


class SectionedOption(click.Option):
    """An option that is shown in ``section``."""

    def __init__(self, *args: Any, section: str = "Other", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert section in SECTIONS, section
        self.section = section


class SectionedCommand(click.Command):
    """Shows its options in sections, after what MODEL can be."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See ``click.Command``."""
        if any(isinstance(each, click.Argument) and each.name in ("model", "a") for each in self.get_params(ctx)):
            with formatter.section("Models"):
                formatter.write_dl(FORMS)
        shown: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
        for parameter in self.get_params(ctx):
            described = None if isinstance(parameter, click.Argument) else parameter.get_help_record(ctx)
            if described is not None:
                shown[getattr(parameter, "section", "Other")].append(described)
        for section, options in shown.items():
            if options:
                with formatter.section(section):
                    formatter.write_dl(options)
