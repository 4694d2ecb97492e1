"""What a file wants when it is loaded, and what of that is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

SAFETY_SCHEMA = "saconv-surgeon/safety/1"
Loads = Literal["as data", "with --trust", "not at all"]


@dataclass(frozen=True)
class SafetyRule:
    """A reason to refuse a file: what is seen, and what to do about it."""

    seen: str
    advice: str


RETRUST = (
    "if you trust whoever made the file, give --trust; or have its weights saved with torch.save(model.state_dict(), …)"
)
REWRITE = "copy it again; or have it written again with torch.save(model.state_dict(), …)"

SAFETY_RULES: Mapping[str, SafetyRule] = MappingProxyType(
    {
        "code": SafetyRule(
            "a function or class that is not known to belong to weights or a trainer's settings", RETRUST
        ),
        "operation": SafetyRule("an operation on something that weights and settings never do it to", RETRUST),
        "opcode": SafetyRule("an instruction that no writer of checkpoints uses", RETRUST),
        "reference": SafetyRule(
            "a reference to something outside the pickle that is not a storage of its own file", REWRITE
        ),
        "storage": SafetyRule("a storage that is not as large as the file says", REWRITE),
        "tensor": SafetyRule("a tensor that reaches beyond its storage, or whose parts do not fit together", REWRITE),
        "allocation": SafetyRule("a small file that asks for a large piece of memory", REWRITE),
        "limits": SafetyRule("more instructions, nesting or digits than any checkpoint needs", REWRITE),
        "damaged": SafetyRule("a file that ends early or does not follow its own format", REWRITE),
        "archive": SafetyRule(
            "an archive that different readers would read differently, or that torch never writes", REWRITE
        ),
        "program": SafetyRule(
            "code by its nature: TorchScript, a program with more than data in it, Python source", RETRUST
        ),
        "format": SafetyRule(
            "a kind of file that is not read", "give weights as .safetensors, or as a state dict in .pt"
        ),
    }
)
"""By rule; the names are part of the contract."""


@dataclass(frozen=True)
class Finding:
    """Something that is refused. ``entry`` is the part of an archive that it is in, ``offset`` its place there in bytes."""

    rule: str
    message: str
    entry: str = ""
    offset: int | None = None


@dataclass(frozen=True)
class Safety:
    """What looking through a file came to. ``wants`` are the functions and classes that it names, as its writer named them."""

    path: str
    format: str
    loads: Loads
    size_bytes: int
    wants: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    models: bool = False
    """Whether it holds a whole model, of which only the weights are data."""
