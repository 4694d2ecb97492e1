"""Methods of a model that merge convolutions with norms or with each other, which converted layers do not allow once trained."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping

from torch import nn

from saconv_surgeon.errors import FusingMethodWarning
from saconv_surgeon.models.tree.paths import parent_of

NAMES = re.compile(
    r"_?fuse|_?fuse_.*|fuseforward|reparam\w*|re_param\w*|switch_to_deploy|(convert_)?to_deploy|deploy|repvgg_convert"
    r"|merge(_kernels?|_weights?|_branches|_and_unload|_lora\w*)?|(fold|merge|absorb|fuse)_(conv_?)?bn\w*"
    r"|get_equivalent_kernel_bias"
)
PROTECTED = "ultralytics."
"""Its fusing passes converted layers by; see ``integrations.ultralytics``."""


def warn_of_fusing(model: nn.Module, paths: Iterable[str]) -> None:
    """Warns if a module around one of the converted layers at ``paths`` has such a method."""
    found = fusing_methods(model, paths)
    if not found:
        return
    methods = ", ".join(
        f"{method}() ({repr(place) if place else 'the model itself'})" for method, place in list(found.items())[:3]
    )
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    warnings.warn(
        f"around converted layers this model has methods that merge convolutions: {methods}{more}. They raise once such a layer "
        "has been trained: call them before you convert, or fold the trained model instead (saconv-surgeon fold)",
        FusingMethodWarning,
        stacklevel=6,
    )


def fusing_methods(model: nn.Module, paths: Iterable[str]) -> Mapping[str, str]:
    """``Class.method`` of every module around ``paths`` that has one, and the path of the first such module."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for path in paths:
        place = path
        while place:
            place = parent_of(place)
            if place in seen:
                break
            seen.add(place)
            module = model.get_submodule(place)
            for name in _methods(type(module)):
                found.setdefault(f"{type(module).__name__}.{name}", place)
    return found


def _methods(kind: type) -> list[str]:
    own = (
        base for base in kind.__mro__ if not base.__module__.startswith(("torch.", PROTECTED)) and base is not object
    )
    return sorted(
        {name for base in own for name, value in vars(base).items() if callable(value) and NAMES.fullmatch(name)}
    )
