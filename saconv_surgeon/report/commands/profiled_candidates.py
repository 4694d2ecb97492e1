"""What profiling many candidates says: one row for each, and latency against MACs."""

from __future__ import annotations

from saconv_surgeon.records import Profile
from saconv_surgeon.records.profiled_candidates import ProfiledCandidate, ProfiledCandidates
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, Block, Line, Table, line, table
from saconv_surgeon.report.curve import Curve, Mark
from saconv_surgeon.report.page import Page
from saconv_surgeon.report.report import Report, visible

COLUMNS = ("model", "parameters", "MACs", "FLOPs", "activations", "latency", "peak memory")
CSV = ("parameters", "macs", "flops", "activations", "peak_memory_bytes")


def candidates_report(found: ProfiledCandidates, name: str) -> Report:
    """The figures of each candidate, and why there are none."""
    shown, title = visible((found, name))
    return Report(lambda width: _blocks(shown), _page(shown, title), _page(found, name))


def _blocks(found: ProfiledCandidates) -> list[Block]:
    return [_figures(found), BLANK, *_missing(found)]


def _page(found: ProfiledCandidates, name: str) -> Page:
    chart = _latency_against_macs(found)
    return Page(
        "profile",
        name,
        verdicts=tuple(_missing(found)),
        tables=(_figures(found),),
        curves=() if chart is None else (chart,),
        rows=tuple(_row(candidate) for candidate in found.candidates),
    )


def _figures(found: ProfiledCandidates) -> Table:
    return table("Candidates", COLUMNS, [(c.name, *_cells(c.profile)) for c in found.candidates])


def _cells(p: Profile | None) -> tuple[str, ...]:
    if p is None:
        return (human.UNKNOWN,) * (len(COLUMNS) - 1)
    latency = None if p.latency is None else p.latency.median_s
    counts = (human.count(value) for value in (p.parameters, p.macs, p.flops, p.activations))
    return (*counts, human.seconds(latency), human.memory(p.peak_memory_bytes))


def _missing(found: ProfiledCandidates) -> list[Line]:
    return [line(f"{c.name} could not be profiled: {c.error}", "warn") for c in found.candidates if c.profile is None]


def _row(candidate: ProfiledCandidate) -> dict[str, object]:
    p = candidate.profile
    figures = {name: None if p is None else getattr(p, name) for name in CSV}
    latency = None if p is None or p.latency is None else p.latency.median_s
    return {"model": candidate.name, **figures, "median_s": latency, "error": candidate.error}


def _latency_against_macs(found: ProfiledCandidates) -> Curve | None:
    """None if fewer than two candidates have both figures."""
    known = [(c.name, c.profile) for c in found.candidates if c.profile is not None]
    marks = tuple(
        Mark(p.macs / 1e9, p.latency.median_s * 1e3, name) for name, p in known if p.macs and p.latency is not None
    )
    return Curve("Latency against MACs", "GMACs", "ms", (), marks, x_prefix="") if len(marks) > 1 else None
