"""What ``inspect --safety`` says."""

from __future__ import annotations

from saconv_surgeon.records.safety import SAFETY_RULES, Safety
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, Block, Line, Table, line, table
from saconv_surgeon.report.page import Page
from saconv_surgeon.report.report import Report, visible

MOST_ROWS = 100


def safety_report(record: Safety) -> Report:
    """The kind of the file, whether it loads, what is refused and why, and every name in it."""
    shown = visible(record)
    return Report(lambda width: _blocks(shown), _page(shown), _page(record))


def verdict(record: Safety) -> str:
    """Whether and how a file loads, in a sentence."""
    if record.loads == "as data" and record.models:
        return f"{record.path} loads without --trust as --weights; as MODEL with --trust, since the model in it is code"
    if record.loads == "as data":
        return f"{record.path} loads without --trust: nothing in it is run"
    if record.loads == "with --trust":
        return f"{record.path} loads with --trust only: it holds more than data"
    return f"{record.path} does not load: {record.findings[0].message}"


def _blocks(record: Safety) -> list[Block]:
    blocks: list[Block] = [*_lines(record)]
    for each in _tables(record):
        blocks += [BLANK, each]
    return blocks


def _lines(record: Safety) -> list[Line]:
    tone = "good" if record.loads == "as data" else "bad"
    return [
        line(verdict(record), "good" if tone == "good" else "bad"),
        line(f"{record.format}, {human.memory(record.size_bytes)}, {len(record.wants)} names of functions and classes"),
    ]


def _tables(record: Safety) -> list[Table]:
    tables = []
    if record.findings:
        rows = [
            (f.rule, f.message, f.entry, "" if f.offset is None else str(f.offset), SAFETY_RULES[f.rule].advice)
            for f in record.findings[:MOST_ROWS]
        ]
        left = len(record.findings) - MOST_ROWS
        note = f"and {left} more, all of them with --json" if left > 0 else ""
        tables.append(table("What is refused", ("rule", "what was seen", "in", "at byte", "what to do"), rows, note))
    if record.wants:
        refused = {f.message.removeprefix("it names ") for f in record.findings if f.rule == "code"}
        names = [(name, "refused" if name in refused else "known: read as data") for name in record.wants[:MOST_ROWS]]
        tables.append(table("What it names", ("function or class", ""), names))
    return [each.without_empty_columns for each in tables]


def _page(record: Safety) -> Page:
    return Page(
        "inspect --safety",
        record.path,
        models=(record.path,),
        verdicts=tuple(_lines(record)),
        tables=tuple(_tables(record)),
        rows=tuple(
            {
                "rule": f.rule,
                "seen": f.message,
                "entry": f.entry,
                "offset": f.offset,
                "advice": SAFETY_RULES[f.rule].advice,
            }
            for f in record.findings
        ),
    )
