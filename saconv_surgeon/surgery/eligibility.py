"""Why a convolution cannot be converted, even if the user selects it."""

from __future__ import annotations

from collections import Counter

from torch import nn
from torch.nn.utils import parametrize

from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.targets.goal import Goal
from saconv_surgeon.convs.targets.target import Reason
from saconv_surgeon.models.census.census import QUANTISED, Census
from saconv_surgeon.models.tree.kernel_shape import by_kernel
from saconv_surgeon.models.tree.writes import written_by_runs
from saconv_surgeon.records import ConvSite
from saconv_surgeon.surgery.changed_by_hand import changed_by_hand, patched
from saconv_surgeon.surgery.own_convolutions import OwnConvolution, recognised

HELD_OUTSIDE = Reason(
    "held-outside-tree",
    "the model calls it through something other than its module tree (a plain list, a closure), so it stays",
)
USED_OTHERWISE = Reason("subclass", "a subclass of Conv2d of which the model uses more than a call")


class Eligibility:
    """Answers for one model and its census; the questions that need the whole model are worked out once."""

    def __init__(self, model: nn.Module, census: Census) -> None:
        self.model = model
        self.census = census
        self.written = {id(p) for p in written_by_runs(model)}
        self.holders = Counter(
            _memory(tensor) for m in model.modules() for tensor in m._parameters.values() if tensor is not None
        )

    def why_not(self, site: ConvSite, goal: Goal, *, allow_depthwise: bool) -> Reason | None:
        """The reason not to convert to ``goal``, the most fundamental first; None if that can be done."""
        if "::" in site.path:
            return Reason("functional", f"{site.type}, a functional call: no module to replace")
        if site.type.startswith(QUANTISED):
            return Reason("quantised", f"{site.type}: quantised already, it has no float kernel")
        module = self.model.get_submodule(site.path)
        own = recognised(module)
        wrong = _cannot_become(goal, own) if own is not None else _wrong_kind(module)
        if wrong is not None or not isinstance(module, nn.Conv2d):
            return wrong
        return (
            self._not_called(site)
            or (changed_by_hand(module) if own is None else patched(module))
            or self._written(module)
            or self._shared_weight(site, module)
            or goal.target.refuses(by_kernel(module), site.shapes, {**goal.options, "allow_depthwise": allow_depthwise})
        )

    def _not_called(self, site: ConvSite) -> Reason | None:
        user = self.census.weights_used_elsewhere.get(site.path)
        if site.executed:
            return None
        if user is not None:
            return Reason(
                "bypassed", f"{user or 'the model'} uses its weight or forward directly, without calling the module"
            )
        return Reason("never-ran", "never ran on these inputs")

    def _written(self, module: nn.Module) -> Reason | None:
        if self.written & {id(p) for p in module._parameters.values()}:
            return Reason(
                "written-by-model",
                "the model's own code writes to its weight or bias, in train() or in forward, as layers do that merge or limit "
                "weights",
            )
        return None

    def _shared_weight(self, site: ConvSite, module: nn.Module) -> Reason | None:
        user = self.census.weights_used_elsewhere.get(site.path)
        if user is not None:
            return Reason("weight-used-elsewhere", f"its weight is used by {user or 'the model'} as well")
        if any(self.holders[_memory(p)] > 1 for p in module._parameters.values() if p is not None):
            return Reason("tied-weight", "its weight or bias is tied to another module's")
        return None


def _cannot_become(goal: Goal, own: OwnConvolution) -> Reason | None:
    """Why the target has no layer for a convolution of another class."""
    kind = goal.target.layer
    if own.published is not None and not issubclass(kind, own.published):
        return Reason("published-layer", f"{own.what}, which only a target that is one too can take over")
    if own.published not in (None, ConvAWS2d) and goal.options.get("parts", "all") != "all":
        return Reason("published-layer", f"{own.what}, which has all parts already (--parts all takes it over)")
    if own.inside and not goal.target.absorbs:
        return Reason("parts-inside", f"{own.what}, which {goal.target.name} has no place for (--to saconv has)")
    return None if issubclass(kind, ConvAWS2d) else Reason("subclass", f"{own.what}, which {kind.__name__} cannot be")


def _wrong_kind(module: nn.Module) -> Reason | None:
    name = type(module).__name__
    if isinstance(module, ConvertedLayer):
        return Reason("already-converted", f"already a {name}")
    if parametrize.is_parametrized(module) or {"weight_g", "weight_orig"} & set(module._parameters):
        return Reason("parametrised", "its weight is parametrised (weight_norm, pruning …)")
    if isinstance(module, nn.Conv2d) and type(module) is not nn.Conv2d:
        return Reason("subclass", f"{name}: a subclass of Conv2d with its own behaviour")
    if type(module) is not nn.Conv2d:
        return Reason("not-conv2d", f"{name}: only Conv2d is converted")
    return None


def _memory(tensor: nn.Parameter) -> tuple[object, ...]:
    """The same for two tensors only if they are the same memory."""
    plain = type(tensor) is nn.Parameter and str(tensor.layout) == "torch.strided"
    return (tensor.device, tensor.data_ptr()) if plain and tensor.numel() and not tensor.is_meta else (id(tensor),)
