"""What ``inspect --to all`` says: one table to choose a target from, one row for each convolution, and why targets do not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from saconv_surgeon.records import GateResult
from saconv_surgeon.records.target_choice import SiteOffers, TargetChoice, TargetOffer, TargetSummary
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, ROOT, Block, Cell, Column, Line, Table, line, table
from saconv_surgeon.report.page import Page
from saconv_surgeon.report.report import Report, visible
from saconv_surgeon.report.sections.gate_lines import gate_blocks, gate_lines

COLUMNS = ("target", "fits", "starts", "+params", "MACs trained", "+params folded", "MACs folded", "what it is")
NOT_HERE = "–"
NOTE = (
    "MACs: of all convolutions, if every one that fits is converted, relative to those of the model as it is; folded: after "
    "saconv-surgeon fold, n/a where that depends on what was learnt. In a row: of that convolution, trained → folded."
)


def choice_report(choice: TargetChoice, name: str, gates: Sequence[GateResult] = ()) -> Report:
    """All targets, then all convolutions."""
    shown, title = visible((choice, name))
    return Report(lambda width: _blocks(shown, gates), _page(shown, title, gates), _page(choice, name, gates))


def _blocks(choice: TargetChoice, gates: Sequence[GateResult]) -> list[Block]:
    return [
        _targets(choice, COLUMNS[:-1]),
        BLANK,
        _sites(choice),
        BLANK,
        *_reasons(choice),
        line(NOTE, "dim"),
        *gate_blocks(gates),
    ]


def _page(choice: TargetChoice, name: str, gates: Sequence[GateResult]) -> Page:
    rows = [_row(site, choice) for site in choice.sites]
    names = [target.target for target in choice.targets]
    return Page(
        "inspect",
        name,
        models=(name,),
        verdicts=(line(NOTE), *gate_lines(gates)),
        tables=(_targets(choice), table("Convolutions", ("convolution", "kind", *names), rows)),
        rows=tuple(_flat(site) for site in choice.sites),
    )


def _targets(choice: TargetChoice, columns: Sequence[str] = COLUMNS) -> Table:
    """On a terminal without what each target is: ``--help`` says that."""
    return table("Targets", columns, [_summary(target, choice)[: len(columns)] for target in choice.targets])


def _summary(t: TargetSummary, choice: TargetChoice) -> Sequence[Cell | str]:
    if not t.fits:
        unknown = (human.UNKNOWN,) * 4
        return (t.target, Cell(f"0 of {len(choice.sites)}", "dim"), t.start, *unknown, t.summary)
    macs = _ratio(choice.macs, t.macs)
    folded = human.UNKNOWN if t.folded_parameters is None else _signed(t.folded_parameters)
    fits = f"{t.fits} of {len(choice.sites)}"
    return (t.target, fits, t.start, _signed(t.parameters), macs, folded, _ratio(choice.macs, t.folded_macs), t.summary)


def _sites(choice: TargetChoice) -> Table:
    """The targets that fit nowhere have no column."""
    shown = [target.target for target in choice.targets if target.fits]
    columns = (Column("convolution", least=12), Column("kind", least=10), *(Column(name) for name in shown))
    rows: list[tuple[Cell | str, ...]] = [
        (
            Cell(site.path or ROOT),
            human.convolution(site.arguments),
            *(_cell(site, o) for o in site.offers if o.target in shown),
        )
        for site in choice.sites
    ]
    return Table("", columns, tuple(rows))


def _row(site: SiteOffers, choice: TargetChoice) -> Sequence[Cell | str]:
    return (site.path or ROOT, human.convolution(site.arguments), *(_cell(site, offer) for offer in site.offers))


def _cell(site: SiteOffers, offer: TargetOffer) -> Cell:
    if offer.reason is not None:
        return Cell(NOT_HERE, "dim")
    trained = _ratio(site.macs, offer.macs)
    folded = trained if offer.folded_macs is None else _ratio(site.macs, offer.folded_macs)
    return Cell(trained if folded == trained else f"{trained} → {folded}", "good")


def _reasons(choice: TargetChoice) -> list[Line]:
    """For each target, what stands against it, the commonest first."""
    lines = []
    for i, target in enumerate(choice.targets):
        against = Counter(site.offers[i].reason for site in choice.sites if site.offers[i].reason)
        if against:
            told = "; ".join(f"{n} × {reason}" for reason, n in against.most_common())
            lines.append(line(f"{target.target} – {told}", "dim"))
    return [line("Where a target does not fit", "strong"), *lines, BLANK] if lines else []


def _flat(site: SiteOffers) -> dict[str, object]:
    """For a spreadsheet: one row, the figures of each target beside each other."""
    row: dict[str, object] = {"path": site.path, "macs": site.macs}
    for offer in site.offers:
        row |= {f"{offer.target} macs": offer.macs, f"{offer.target} folded macs": offer.folded_macs}
        row[f"{offer.target} reason"] = offer.reason
    return row


def _ratio(before: int | None, added: int | None) -> str:
    return human.UNKNOWN if not before or added is None else f"×{(before + added) / before:.2f}"


def _signed(value: int) -> str:
    return f"{'+' if value >= 0 else '−'}{human.count(abs(value))}"
