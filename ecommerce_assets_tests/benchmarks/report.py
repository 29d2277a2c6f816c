"""The report: ratios between our graph and other systems, seconds by stage, memory, machine. See `render`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ecommerce_assets_tests.benchmarks.growth import WHOLE, Results, exponents, extrapolate, series

Parts = Mapping[str, Mapping[str, Any]]

TABLES = ("user_features", "product_features", "user_index", "product_index", "interaction_data")
LISTS = ("als_model", "recommendations")


@dataclass(frozen=True)
class Comparison:
    """One comparison, `first` / `second`.

    Attributes
    ----------
    unit
        `s` or `MB`.
    note
        A remark on the comparison.
    """

    comparison: str
    first: float
    second: float
    unit: str = "s"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.first / self.second if self.second else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}


def compare_all(results: Results) -> dict[int, list[Comparison]]:
    """Returns the comparisons of every size. If the reference did not run, it is extrapolated from its growth."""
    return {events: compare(parts, extrapolate(results, "reference", events)) for events, parts in results.items()}


def compare(parts: Parts, extrapolated: tuple[float, float] | None = None) -> list[Comparison]:
    """Returns the comparisons of one size, of the parts that ran.

    Parameters
    ----------
    extrapolated
        Seconds and exponent of the reference if it did not run.
    """
    rows: list[Comparison] = []

    def add(comparison: str, first: float | None, second: float | None, unit: str = "s", note: str = "") -> None:
        if first is not None and second is not None:
            rows.append(Comparison(comparison, first, second, unit, note))

    graph, kernels = parts.get("graph", {}), parts.get("kernels", {})
    for part, name in (("reference", "reference"), ("mllib", "MLlib pipeline")):
        add(f"whole graph: {name} / ours", parts.get(part, {}).get("seconds"), graph.get("seconds"))
    if extrapolated and "seconds" not in parts.get("reference", {}):
        note = f"reference extrapolated, as events to the power of {extrapolated[1]:.2f}"
        add("whole graph: reference / ours", extrapolated[0], graph.get("seconds"), note=note)
    duckdb, sail = parts.get("duckdb", {}), parts.get("sail", {})
    add("whole graph: Spark / Sail", graph.get("seconds"), sail.get("seconds"))
    add("whole graph: reference / ours on Sail", parts.get("reference", {}).get("seconds"), sail.get("seconds"))
    checks = _sum(graph, TABLES, "check_seconds") or 0.0
    note = f"without the {checks:,.1f} s of our checks" if checks else ""
    written = _sum(graph, TABLES)
    add("tables: ours / DuckDB", written and written - checks, _sum(duckdb, TABLES), note=note)
    all_stages = (*TABLES, *LISTS)
    for on, ours in (("", graph), (" on Sail", sail)):
        add(f"tables, ALS and top 10: DuckDB and implicit / ours{on}", _sum(duckdb, all_stages), _sum(ours, all_stages))

    def kernel(stage: str) -> float | None:
        return _sum(kernels, (stage,))

    for name in ("MLlib", "implicit"):
        note = _objective_note(kernels, name)
        add(f"ALS: {name} / ours", kernel(f"als: {name}"), kernel("als: ours"), note=note)
    tops = (
        ("MLlib", "recommendForAllUsers"),
        ("product alone", "the product alone, nothing chosen"),
        ("brute force", "brute force"),
        ("implicit", "implicit recommend"),
    )
    for name, title in tops:
        note = _difference_note(kernels, "ours") if name == "brute force" else _difference_note(kernels, name)
        add(f"top 10: {title} / ours", kernel(f"top 10: {name}"), kernel("top 10: ours"), note=note)
    add("peak memory: Spark / Sail", _megabytes(graph), _megabytes(sail), "MB")
    for part, name in (("reference", "reference"), ("mllib", "MLlib pipeline"), ("duckdb", "DuckDB and implicit")):
        add(f"peak memory: {name} / ours", _megabytes(parts.get(part, {})), _megabytes(graph), "MB")
    return rows


def _sum(part: Mapping[str, Any], stages: Sequence[str], which: str = "stages") -> float | None:
    """Returns the total seconds of these stages; None if one is missing."""
    seconds: Mapping[str, float] = part.get(which, {})
    return sum(seconds[stage] for stage in stages) if all(stage in seconds for stage in stages) else None


def _megabytes(part: Mapping[str, Any]) -> float | None:
    peak = part.get("peak_bytes")
    return peak / 1e6 if peak else None


def _objective_note(kernels: Mapping[str, Any], name: str) -> str:
    objectives: Mapping[str, float] = kernels.get("objectives", {})
    if name not in objectives:
        return ""
    return f"objective {name} / ours {objectives[name] / objectives['ours']:.5f}"


def _difference_note(kernels: Mapping[str, Any], name: str) -> str:
    differences: Mapping[str, float] = kernels.get("score_differences", {})
    if name not in differences:
        return ""
    return f"largest score difference of {name} to brute force {differences[name]:.1e}"


def render(results: Results, machine: Mapping[str, Any]) -> str:
    """Returns the report in Markdown."""
    blocks, compared = [], compare_all(results)
    for events, parts in sorted(results.items()):
        blocks.append(f"## {events:,} events")
        rows = [
            (row.comparison, _number(row.first, row.unit), _number(row.second, row.unit), _ratio(row), row.note)
            for row in compared[events]
        ]
        blocks.append(_table(("first / second", "first", "second", "ratio", "note"), rows, numbers=(1, 2, 3)))
        blocks += [f"- {sentence}" for sentence in _remarks(parts)]
    blocks += ["## Seconds by stage", _stages(results), "## Peak memory, MB", _memory(results)]
    return "\n\n".join([*blocks, "## Machine", _machine(machine)]) + "\n"


def _remarks(parts: Parts) -> list[str]:
    """Returns the reasons why parts were skipped or failed, and their notes."""
    remarks = []
    for name, part in parts.items():
        remarks += [f"{name}: {part[key]}" for key in ("skipped", "failed") if key in part]
        remarks += [f"{name}: {note}" for note in part.get("notes", [])]
        if "compile_seconds" in part:
            source = part.get("source", "the given pairs")
            remarks.append(
                f"{name}: {part['pairs']:,} pairs ({source}); compiling our ALS kernels once took "
                f"{part['compile_seconds']:.1f} s and is not in the figures."
            )
    return remarks


def _stages(results: Results) -> str:
    sizes = sorted(results)
    rows = []
    for (part, stage), seconds in series(results).items():
        taken = [_number(seconds[events], "s") if events in seconds else "" for events in sizes]
        grown = ", ".join(f"{b:.2f}" for b in exponents(seconds))
        rows.append((part, f"**{stage}**" if stage == WHOLE else stage, *taken, grown))
    header = ("part", "stage", *(f"{events:,}" for events in sizes), "growth exponents")
    return _table(header, rows, numbers=range(2, len(header)))


def _memory(results: Results) -> str:
    sizes = sorted(results)
    parts = list(dict.fromkeys(part for size in results.values() for part in size))
    rows = []
    for part in parts:
        peaks = [_megabytes(results[events].get(part, {})) for events in sizes]
        if any(peaks):
            rows.append((part, *("" if peak is None else f"{peak:,.0f}" for peak in peaks)))
    header = ("part", *(f"{events:,}" for events in sizes))
    return _table(header, rows, numbers=range(1, len(header)))


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {value or 'not installed'}" for name, value in machine["versions"].items())
    memory = machine["memory_bytes"] / 2**30
    return f"{machine['cpu']}, {machine['cores']} cores, {memory:.1f} GiB, {machine['system']}; {versions}."


def _ratio(row: Comparison) -> str:
    return "" if row.ratio is None else f"{row.ratio:.2f}"


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if unit != "s" else f"{value:,.2f} s"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Returns a Markdown table that is also legible in a terminal; the columns `numbers` are aligned to the right."""
    if not rows:
        return "Nothing was measured."
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            c.rjust(w) if i in numbers else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (w - 1) + ":") if i in numbers else "-" * w for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)])
