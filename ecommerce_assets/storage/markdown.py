"""Markdown tables of values, as Dagster's UI renders them. What is shown in them stands where they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

INLINE = 1_000
"""Characters of Markdown up to which the UI shows a text at once; a longer one is behind a link, with more room."""

LARGE = 1_000
"""Numbers from here on are written with two decimals, smaller ones with six digits."""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[bool] = ()) -> str:
    """A table without padding, for the UI shows only a short text at once.

    Parameters
    ----------
    numbers
        For each column whether it is aligned as numbers are; none given: no column is.
    """
    right = numbers or [False] * len(header)
    lines = [header, ["--:" if one else ":--" for one in right], *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"|{'|'.join(line)}|" for line in lines)


def cell(value: Any) -> str:
    """A value as text: nothing for null, times without their zone, nothing in it that would end the cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= LARGE else f"{value:.6g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return " ".join(str(value).replace("|", r"\|").split())


def widest_row(table: str) -> int:
    """Characters of a table's row as the UI lays it out: each column as wide as its widest cell, and a gap."""
    rows = [line[1:-1].replace(r"\|", "/").split("|") for line in table.splitlines()]
    return sum(max(len(text) for text in column) + 2 for column in zip(*rows, strict=True))


def behind_a_link(text: str) -> str:
    """The text, made so long that the UI does not cut it off in its column but shows it in a dialog."""
    return text.ljust(INLINE)
