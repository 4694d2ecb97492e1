"""What ``plan`` chose for every layer, at what price, for what gain, and why."""

from __future__ import annotations

from collections import Counter

from saconv_surgeon.records import BudgetedPlan, LayerOffers, Offer, Promise, interval_name
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import ROOT, Cell, Column, Line, Span, Table, line, table
from saconv_surgeon.report.sections.gain_curve import gain_of

MEDIUM = 110
PLAIN = "stays"
BASELINES = ("depth", "random", "stages")
"""Scores that are orders of layers."""
TITLES = ("layer", "choice", "+latency", "+MACs", "+params", "gain", "why")
COLUMNS = (
    Column("layer", least=12),
    Column("choice", least=8),
    Column("+latency", right=True, whole=True),
    Column("+MACs", right=True, whole=True, from_width=MEDIUM),
    Column("+params", right=True, whole=True),
    Column("gain", right=True, whole=True),
    Column("why", least=16),
)


def summary(planned: BudgetedPlan) -> list[Line]:
    """How many layers become what, the promises, and the gain."""
    chosen = planned.chosen
    kinds = Counter(offer.candidate.name for offer in chosen.values())
    named = ", ".join(f"{n} {name}" for name, n in kinds.most_common()) or "none"
    first = Line(
        (
            Span(f"{len(chosen)} of {human.plural(len(planned.layers), 'layer')}", "good" if chosen else "warn"),
            Span(f" to be converted: {named}"),
        ),
        "good" if chosen else "warn",
    )
    return [first, *map(_promise, planned.promises), *_gain(planned), *(line(note, "warn") for note in planned.notes)]


def chosen_layers(planned: BudgetedPlan) -> Table:
    """One row for each layer that could be converted."""
    return Table("", COLUMNS, tuple(_row(planned, layer) for layer in planned.layers))


def chosen_page(planned: BudgetedPlan) -> Table:
    """The same for a page."""
    return table("Layers and choices", TITLES, [_row(planned, layer) for layer in planned.layers])


def offers_page(planned: BudgetedPlan) -> Table:
    """Every candidate of every layer with its price and gain."""
    titles = ("layer", "candidate", "+latency", "+latency as trained", "+MACs", "+params", "gain")
    rows = [
        (
            layer.path or ROOT,
            offer.candidate.name,
            _seconds(offer.price.latency_s),
            _seconds(offer.price.trained_latency_s),
            _count(offer.price.macs),
            _count(offer.price.parameters),
            offer.why_no_gain or gain_of(planned, offer.gain),
        )
        for layer in planned.layers
        for offer in layer.offers
    ]
    return table("All candidates", titles, rows)


def _row(planned: BudgetedPlan, layer: LayerOffers) -> tuple[Cell | str, ...]:
    offer = planned.chosen.get(layer.path)
    name = layer.path or ROOT
    if offer is None:
        return (name, Cell(PLAIN, "dim"), "", "", "", "", Cell(layer.why, "dim"))
    return (name, Cell(f"→ {offer.candidate.name}", "good"), *_figures(offer), gain_of(planned, offer.gain), layer.why)


def _figures(offer: Offer) -> tuple[str, str, str]:
    price = offer.price
    return _seconds(price.latency_s), _count(price.macs), _count(price.parameters)


def _seconds(value: float | None) -> str:
    return human.UNKNOWN if value is None else f"{_sign(value)}{human.seconds(abs(value))}" if value else "0"


def _count(value: float) -> str:
    return f"{_sign(value)}{human.count(abs(value))}" if value else "0"


def _sign(value: float) -> str:
    return "+" if value >= 0 else "−"


def _promise(promise: Promise) -> Line:
    text = f"{promise.budget.text}: "
    if promise.ratio is not None:
        ratio = promise.ratio
        text += f"measured ×{ratio.median:.3f}, {interval_name(ratio.n)} ×{ratio.low:.3f}–{ratio.high:.3f}"
    elif promise.found is not None:
        text += f"found {_in_units(promise, promise.found)}"
    else:
        text += "not measured"
    if promise.predicted is not None:
        text += f" (the prices say {_in_units(promise, promise.predicted)})"
    if promise.found is None:
        return line(text, "warn")
    return line(text if promise.kept else f"{text}: NOT KEPT", "good" if promise.kept else "bad")


def _in_units(promise: Promise, value: float) -> str:
    kind, figure = promise.budget.kind, promise.budget.figure
    if kind == "ratio":
        return f"×{value:.3f}"
    shown = human.memory if "memory" in figure or "bytes" in figure else human.count
    if "latency" in figure or figure == "training":
        shown = human.seconds
    return f"{'+' if kind == 'increase' else ''}{shown(value)}"


def _gain(planned: BudgetedPlan) -> list[Line]:
    if planned.gain is None:
        return [line(f"score {planned.score}: no gain known", "warn")]
    if planned.score in BASELINES:
        return [line(f"score {planned.score}: an order of the layers, no measure of a gain")]
    if planned.everything is None or planned.everything <= 0:
        return [line(f"score {planned.score}: a promised gain of {planned.gain:.3g} ({planned.unit})")]
    share = human.share(planned.gain / planned.everything)
    text = f"score {planned.score}: {share} of the gain that converting every layer whole promises"
    return [line(f"{text} ({planned.gain:.3g} of {planned.everything:.3g}, {planned.unit})")]
