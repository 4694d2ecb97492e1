"""Records as Rich renderables, for 80 columns and up. Names from a model are never read as markup and never cut off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from saconv_surgeon.records import (
    Diff,
    Equivalence,
    Latency,
    LatencyRatio,
    LayerCost,
    Plan,
    PlannedSite,
    Profile,
    UncountedOp,
)
from saconv_surgeon.report import text

MEDIUM, WIDE = 110, 150
NAMES_SHOWN = 6
LAYERS_SHOWN = 25
VERDICT_STYLE = {"faster": "green", "slower": "yellow", "same": "green", "inconclusive": "dim"}


# ------------------------------------------------------------------ whole reports


def inspection(plan: Plan, name: str, width: int) -> RenderableType:
    """What ``inspect`` prints."""
    return Group(_title("inspect", name), _sites_table(plan.sites, width, plan.target), Text(), ledger(plan))


def conversion(
    plan: Plan,
    equivalence: Equivalence,
    before: Profile | None,
    after: Profile | None,
    latency_ratio: LatencyRatio | None,
    name: str,
    width: int,
    *,
    every_site: bool,
) -> RenderableType:
    """What ``convert`` prints. Refused convolutions are grouped by reason unless ``every_site``."""
    parts: list[RenderableType] = [_title("convert", name)]
    if every_site:
        parts.append(_sites_table(plan.sites, width, plan.target))
    else:
        parts.append(_sites_table([s for s in plan.sites if s.converts], width, plan.target))
        parts += _refusals(plan.sites)
    parts += [Text(), ledger(plan), Text(), proof(equivalence)]
    if before is not None and after is not None:
        parts += [Text(), _price_table(before, after, latency_ratio, ("before", "after"), width)]
        parts += _footnotes((before, after))
    return Group(*parts)


def profile(record: Profile, width: int, *, every_layer: bool) -> RenderableType:
    """What ``profile`` prints."""
    totals = Table(box=None, show_header=False, pad_edge=False)
    totals.add_column(style="bold", no_wrap=True)
    totals.add_column(justify="right", no_wrap=True)
    totals.add_column(style="dim", overflow="fold")
    for label, value, note in _totals(record):
        totals.add_row(label, value, note)
    parts: list[RenderableType] = [_title("profile", record.model), totals, Text()]
    parts += [_layers_table(record, width, every_layer), *_footnotes((record,))]
    return Group(*parts)


def diff(record: Diff, width: int) -> RenderableType:
    """What ``diff`` prints: totals first, then only what differs."""
    parts: list[RenderableType] = [
        _title("diff", f"A = {record.a.model}   B = {record.b.model}"),
        _price_table(record.a, record.b, record.latency_ratio, ("A", "B"), width),
        *_footnotes((record.a, record.b)),
        Text(),
    ]
    parts += _structure(record)
    parts += _weights(record)
    parts += _outputs(record)
    return Group(*parts)


def environment(facts: Mapping[str, Any]) -> RenderableType:
    """What ``env`` prints."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(Text(name), Text(str(value if value is not None else "not installed")))
    return table


def _title(command: str, name: str) -> Text:
    line = Text(f"saconv-surgeon {command}  ", style="bold")
    line.append(name, style="not bold cyan")
    line.append("\n")
    return line


# ------------------------------------------------------------------ convolutions


def ledger(plan: Plan) -> Text:
    """One line in which every convolution is accounted for."""
    count = plan.ledger
    line = Text()
    line.append(text.plural(len(plan.sites), "convolution"), style="bold")
    line.append(f": {count.executed} executed, {count.never_ran} never ran · ")
    line.append(f"{count.converted} converted", style="green" if count.converted else "yellow")
    line.append(f", {count.refused} refused")
    line.append(f"\nhow they were found: {_witnesses(plan.sites)}", style="dim")
    return line


def _witnesses(sites: Sequence[PlannedSite]) -> str:
    """Which convolutions a graph showed with what follows them, and which only the run itself did."""
    alone = [site.path for site in sites if site.found_by == "census" and site.executed]
    counted = {
        "in the graph of the whole model": sum(site.found_by == "fx" for site in sites),
        "in graphs of its parts": sum(site.found_by not in ("fx", "census") for site in sites),
        "in its module tree alone": sum(site.found_by == "census" and not site.executed for site in sites),
        f"by running it alone ({_names(alone)})": len(alone),
    }
    return ", ".join(f"{n} {how}" for how, n in counted.items() if n) or "there are none"


def _sites_table(sites: Sequence[PlannedSite], width: int, target: str) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", expand=False)
    table.add_column("convolution", overflow="fold", ratio=None, min_width=12)
    table.add_column("kind", overflow="fold", min_width=12)
    if width >= MEDIUM:
        table.add_column("map", overflow="fold", min_width=11)
        table.add_column("feeds", overflow="fold")
    if width >= WIDE:
        table.add_column("calls", justify="right", no_wrap=True)
        table.add_column("found by", overflow="fold")
    table.add_column("+params", justify="right", no_wrap=True)
    table.add_column("+MACs", justify="right", no_wrap=True)
    table.add_column("decision", overflow="fold", min_width=14)
    for site in sites:
        cells = [_path(site), Text(text.convolution(site.arguments) or site.type)]
        if width >= MEDIUM:
            cells += [Text(text.maps(site.shapes) or "never ran"), Text(_follows(site))]
        if width >= WIDE:
            cells += [Text(str(site.calls)), Text(site.found_by)]
        cells += [_added(site.added_parameters), _added(site.added_macs), _decision(site, target)]
        table.add_row(*cells)
    return table


def _path(site: PlannedSite) -> Text:
    name = Text(site.path or "(the model itself)")
    if site.aliases:
        name.append(f" = {', '.join(site.aliases)}", style="dim")
    return name


def _follows(site: PlannedSite) -> str:
    kinds = [_kind(part) for part in (site.norm, site.activation) if part]
    return " → ".join(kinds)


def _kind(described: str) -> str:
    """``layer1.bn1 (BatchNorm2d)`` → ``BatchNorm2d``."""
    return described.rpartition(" (")[2].rstrip(")")


def _added(value: int | None) -> Text:
    return Text("" if value is None else f"+{text.count(value)}")


def _decision(site: PlannedSite, target: str) -> Text:
    if site.converts:
        return Text(f"→ {target}", style="green")
    return Text(site.reason or "refused", style="dim")


def _refusals(sites: Iterable[PlannedSite]) -> list[RenderableType]:
    groups: dict[str, list[PlannedSite]] = {}
    for site in sites:
        if not site.converts:
            groups.setdefault(site.reason or "refused", []).append(site)
    if not groups:
        return []
    lines: list[RenderableType] = [Text(), Text("Left as they are", style="bold")]
    for reason, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines.append(Padding(Text(f"{len(group)} × {reason}"), (0, 0, 0, 2)))
        names = _names([site.path or "(the model itself)" for site in group])
        lines.append(Padding(Text(names, style="dim"), (0, 0, 0, 6)))
    return lines


def _names(names: Sequence[str], shown: int = NAMES_SHOWN) -> str:
    listed = ", ".join(names[:shown])
    return listed if len(names) <= shown else f"{listed} and {len(names) - shown} more"


# ------------------------------------------------------------------ proof


def proof(equivalence: Equivalence) -> Text:
    """The verdict of the proof in a line, and what is known where it is not a plain yes."""
    e = equivalence
    line = Text()
    if e.passed:
        line.append("✓ same outputs", style="bold green")
        line.append(
            ": bit-identical" if e.bit_equal else f": within {text.error(e.max_rel)} relative (allowed {e.tolerance:g})"
        )
    else:
        line.append("✗ outputs moved", style="bold red")
        line.append(f": {text.error(e.max_rel)} relative, {text.error(e.max_abs)} absolute (allowed {e.tolerance:g})")
    line.append(
        f", on {text.plural(e.trials, 'input')}, {text.plural(e.tensors, 'output tensor')}, {e.dtype} on {e.device}"
    )
    if e.mode == "train":
        line.append(", as in training and as in inference")
    if not e.deterministic:
        noise = text.error(e.noise_max_rel)
        line.append(
            f"\n  the model is not deterministic: it moves by {noise} relative from run to run, and was judged against that"
        )
    if e.first_moved is not None:
        line.append("\n  first layer that moves: ")
        line.append(e.first_moved, style="bold")
    for problem in e.problems:
        line.append(f"\n  {problem}")
    return line


# ------------------------------------------------------------------ price


def _price_table(
    a: Profile, b: Profile, latency_ratio: LatencyRatio | None, names: tuple[str, str], width: int
) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("price", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", style="dim")
    rows: list[tuple[str, float | None, float | None, Any, str]] = [
        ("parameters", a.parameters, b.parameters, text.count, ""),
        ("MACs", a.macs, b.macs, text.count, "1 multiply–accumulate = 1"),
        ("FLOPs", a.flops, b.flops, text.count, "2 × MACs + element-wise"),
        ("fvcore flops", a.fvcore_flops, b.fvcore_flops, text.count, "its mixed unit, for published tables"),
        ("activations", a.activations, b.activations, text.count, "elements produced"),
    ]
    if a.peak_memory_bytes is not None or b.peak_memory_bytes is not None:
        rows.append(("peak memory", a.peak_memory_bytes, b.peak_memory_bytes, text.memory, ""))
    for label, left, right, show, note in rows:
        table.add_row(label, show(left), show(right), text.ratio(left, right), note if width >= MEDIUM else "")
    if a.latency is not None and b.latency is not None:
        table.add_row(
            "latency",
            text.seconds(a.latency.median_s),
            text.seconds(b.latency.median_s),
            _ratio(latency_ratio) if latency_ratio else text.ratio(a.latency.median_s, b.latency.median_s),
            _clock(a.latency) if width >= MEDIUM else "",
        )
        table.add_row("  p90", text.seconds(a.latency.p90_s), text.seconds(b.latency.p90_s), "", "")
        table.add_row("  IQR", text.seconds(a.latency.iqr_s), text.seconds(b.latency.iqr_s), "", "")
    parts: list[RenderableType] = [table]
    if latency_ratio is not None:
        parts.append(_verdict(latency_ratio, a.latency))
    return Group(*parts)


def _ratio(record: LatencyRatio) -> Text:
    return Text(f"×{record.median:.3g}", style=VERDICT_STYLE[record.verdict])


def _verdict(record: LatencyRatio, latency: Latency | None) -> Text:
    line = Text(f"{names_verdict(record)}: ", style=VERDICT_STYLE[record.verdict])
    line.append(
        f"×{record.median:.3g}, 95 % interval {record.low:.3g}–{record.high:.3g}, {record.n} alternating pairs, "
        f"noise floor ±{100 * record.noise_floor:.1f} %",
        style="not bold default",
    )
    if latency is not None:
        line.append(f"; {_clock(latency)}", style="dim")
    return line


def names_verdict(record: LatencyRatio) -> str:
    """``slower`` and its like, as the start of a sentence."""
    return record.verdict.capitalize()


def _clock(latency: Latency) -> str:
    threads = "" if latency.device.startswith("cuda") else f", {text.plural(latency.threads, 'thread')}"
    return f"{latency.device}{threads}, {latency.clock}, n = {latency.n}"


def _totals(p: Profile) -> list[tuple[str, str, str]]:
    inputs = ", ".join(map(text.shape, p.input_shapes))
    rows = [
        ("input", inputs, f"{p.dtype} on {p.device}"),
        ("parameters", text.count(p.parameters), f"{p.parameters:,}, {p.trainable_parameters:,} of them trainable"),
        ("MACs", text.count(p.macs), "1 multiply–accumulate = 1; convolutions, linear layers, matrix products"),
        ("FLOPs", text.count(p.flops), "2 × MACs + element-wise, pooling and normalisation"),
        ("fvcore flops", text.count(p.fvcore_flops), "what plain fvcore prints: a mixed unit, for published tables"),
        ("activations", text.count(p.activations), "elements produced by convolutions, linear layers, matrix products"),
    ]
    if p.peak_memory_bytes is not None:
        rows.append(("peak memory", text.memory(p.peak_memory_bytes), ""))
    if p.latency is not None:
        t = p.latency
        spread = f"p90 {text.seconds(t.p90_s)}, IQR {text.seconds(t.iqr_s)}, {_clock(t)}"
        rows.append(("latency", text.seconds(t.median_s), spread))
    return rows


def _layers_table(record: Profile, width: int, every_layer: bool) -> RenderableType:
    layers = list(record.layers)
    if not every_layer and len(layers) > LAYERS_SHOWN:
        heavy = sorted(layers, key=lambda layer: layer.macs or 0, reverse=True)[:LAYERS_SHOWN]
        kept = {id(layer) for layer in heavy}
        layers = [layer for layer in layers if id(layer) in kept]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold", min_width=12)
    table.add_column("type", overflow="fold")
    for title in ("params", "MACs", "share"):
        table.add_column(title, justify="right", no_wrap=True)
    bar = width >= MEDIUM
    if bar:
        table.add_column("", no_wrap=True)
    largest = max((layer.macs or 0 for layer in layers), default=0)
    for layer in layers:
        cells = [Text(layer.path or "(the model itself)"), Text(layer.type), Text(text.count(layer.parameters))]
        cells += [Text(text.count(layer.macs)), Text(_share(layer, record))]
        table.add_row(*cells, *([Text("▇" * _bar_length(layer, largest), style="cyan")] if bar else []))
    rest = len(record.layers) - len(layers)
    if not rest:
        return table
    return Group(table, Text(f"… and {text.plural(rest, 'lighter layer')}; -v shows all", style="dim"))


def _share(layer: LayerCost, record: Profile) -> str:
    return f"{100 * layer.macs / record.macs:.1f} %" if layer.macs and record.macs else ""


def _bar_length(layer: LayerCost, largest: int, size: int = 20) -> int:
    return round(size * (layer.macs or 0) / largest) if largest else 0


def _footnotes(profiles: Iterable[Profile]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    uncounted: dict[str, UncountedOp] = {}
    for p in profiles:
        if p.note:
            lines.append(Text(f"{p.model}: {p.note}", style="yellow"))
        uncounted.update(p.uncounted_ops)
    if uncounted:
        lines.append(Text("Not counted in FLOPs:", style="yellow"))
        for op, seen in uncounted.items():
            where = _names([m or "(the model itself)" for m in seen.modules])
            lines.append(Text(f"  {op}, {seen.calls} ×, in {where}"))
    elif not lines:
        lines.append(Text("every operation is counted", style="dim"))
    return lines


# ------------------------------------------------------------------ differences


def _structure(record: Diff) -> list[RenderableType]:
    if not record.structure:
        return [Text("structure: no difference")]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("structure", overflow="fold", min_width=12)
    table.add_column("A", overflow="fold")
    table.add_column("B", overflow="fold")
    for change in record.structure:
        table.add_row(Text(change.path or "(the model itself)"), *_both_sides(change.a, change.b))
    return [table]


def _both_sides(a: str | None, b: str | None) -> tuple[Text, Text]:
    """Settings that are the same on both sides are said once."""
    if a is not None and b is not None and a.partition("(")[2] == b.partition("(")[2]:
        return Text(a), Text(f"{b.partition('(')[0]}, same settings")
    return Text(a or "—"), Text(b or "—")


def _weights(record: Diff) -> list[RenderableType]:
    w = record.weights
    if w is None:
        return []
    lines = [
        Text(),
        Text(
            f"weights: {text.plural(w.equal, 'tensor')} equal, {len(w.changed)} changed, {len(w.reshaped)} of another shape, "
            f"{len(w.only_in_a)} only in A, {len(w.only_in_b)} only in B"
        ),
    ]
    for change in w.changed[:NAMES_SHOWN]:
        lines.append(Text(f"  {change.name}  changed by {text.error(change.relative)} relative", style="dim"))
    for label, names in (("another shape", w.reshaped), ("only in A", w.only_in_a), ("only in B", w.only_in_b)):
        if names:
            lines.append(Text(f"  {label}: {_names(names)}", style="dim"))
    return [*lines]


def _outputs(record: Diff) -> list[RenderableType]:
    o = record.outputs
    if o is None:
        return []
    if o.bit_equal:
        return [Text(f"outputs: bit-identical ({text.plural(o.tensors, 'tensor')})", style="green")]
    line = Text(f"outputs: max abs {text.error(o.max_abs)}, max rel {text.error(o.max_rel)}, cosine ")
    line.append("n/a" if o.cosine is None else f"{o.cosine:.6f}")
    return [line, *(Text(f"  {problem}", style="yellow") for problem in o.problems)]
