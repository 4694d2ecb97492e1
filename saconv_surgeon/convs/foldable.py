"""``FoldableSAConv2d``: how a switchable atrous convolution becomes a module for inference."""

from __future__ import annotations

from torch import Tensor, nn

from saconv_surgeon.convs.affine import Affine
from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.context import GlobalContext
from saconv_surgeon.convs.folded import (
    FoldedSAConv2d,
    bias_through,
    carry_attributes,
    context_through,
    kernel_through,
    live,
    scale_inside,
)
from saconv_surgeon.convs.folded_contexts import FoldedContexts
from saconv_surgeon.convs.geometry import wide_dilation, wide_padding
from saconv_surgeon.convs.own_norm import OwnNorm


class FoldableSAConv2d(OwnNorm, ConvAWS2d):
    """The parts of an :class:`~saconv_surgeon.SAConv2d`, each of which may be None, and their way into a folded layer."""

    weight_diff: Tensor | None
    switch: nn.Conv2d | None
    pre_context: GlobalContext | None
    post_context: GlobalContext | None

    def _folded_core(self, then: Affine | None) -> nn.Module:
        """The layer without its own norm and activation, followed by ``then``.

        That is an ``nn.Conv2d`` if one branch without contexts is left, and the convolution that the layer was made from, to
        the bit, if nothing has moved.

        With S the switch and s, t the norm's scale and shift, ``s (S u + (1 - S) v) + t = S (s u + t) + (1 - S) (s v + t)``:
        the norm goes into both branches alike, and so does the bias. If there is a post-context B, c that is not zero, the
        result is ``s y + (s B) GAP(y) + (s c + t)``, and ``y' + (s B / s) GAP(y') + (s c + t)`` with y' = s y from the branches,
        which saves a pass over the map; not if some s is 0 or almost.
        """
        if then is None and self.is_at_rest():
            return ConvAWS2d.to_conv2d(self)
        dtype = self.weight.dtype
        pre, pre_bias = _split(self.pre_context)
        post, post_bias = _split(self.post_context)
        inside = None if post is None else scale_inside(then, dtype)
        narrow, wide, switch = self._folded_branches(then if post is None else inside, post_bias)
        shift = live(pre_bias)
        alone = narrow if wide is None else wide if narrow is None else None
        if type(alone) is nn.Conv2d and pre is None and post is None and shift is None:
            return alone
        kind = FoldedContexts if type(alone) is nn.Conv2d else self.folded_class
        folded = kind(
            narrow,
            wide,
            switch=switch,
            pre_context=None if pre is None else context_through(None, pre),
            pre_shift=None if shift is None else shift.reshape(-1, 1, 1),
            post_context=None if post is None else context_through(then, post, inside),
            scale=then.scale.reshape(-1, 1, 1).to(dtype)
            if post is not None and then is not None and inside is None
            else None,
        )
        carry_attributes(self, folded)
        return folded.requires_grad_(False).train(self.training)

    def _folded_branches(
        self, then: Affine | None, post_bias: Tensor | None
    ) -> tuple[nn.Conv2d | None, nn.Conv2d | None, tuple[Tensor, Tensor] | None]:
        """The narrow and the wide branch with constant kernels, and the switch unless it is constant and went into these."""
        varies, share = False, 1.0
        if self.switch is not None and self.switch.bias is not None:
            varies = bool(self.switch.weight.any())
            share = 1.0 if varies else self.switch.bias.item()
        bias = bias_through(then, [self.bias, live(post_bias)])
        kernel, dtype = self.standardised_weight().detach(), self.weight.dtype
        narrow = wide = None
        if share != 0:
            narrow = self.branch(kernel_through(then, kernel, share, dtype), bias, wide=False)
        if self.weight_diff is not None and (varies or share != 1):
            kernel = kernel + self.weight_diff.detach()
            rest = 1.0 if varies else 1.0 - share
            own = bias if varies or narrow is None else None
            wide = self.branch(kernel_through(then, kernel, rest, dtype), own, wide=True)
        if self.switch is None or self.switch.bias is None or not varies:
            return narrow, wide, None
        return narrow, wide, (self.switch.weight, self.switch.bias)

    def branch(self, kernel: Tensor, bias: Tensor | None, *, wide: bool) -> nn.Conv2d:
        """One of the two branches as a convolution with this kernel."""
        conv = self.plain(kernel, None if bias is None else bias.clone())
        if wide:
            left, right, top, bottom = wide_padding(self)
            conv.dilation = wide_dilation(self)
            conv.padding = self.padding if self.padding == "same" else (top, left)
            conv._reversed_padding_repeated_twice = [left, right, top, bottom]
        return conv

    @property
    def folded_class(self) -> type[FoldedSAConv2d]:
        """The class that joins the folded branches."""
        return FoldedSAConv2d


def _split(context: GlobalContext | None) -> tuple[GlobalContext | None, Tensor | None]:
    """A context that depends on its input, or the bias that is left of one that does not."""
    if context is None or bool(context.weight.any()):
        return context, None
    return None, context.bias
