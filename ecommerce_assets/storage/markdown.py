"""Markdown tables of values, as Dagster's UI renders them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

INLINE = 1_000
"""Characters of Markdown up to which the UI shows a text at once; a longer one is behind a link, with more room."""

LARGE = 1_000
"""Numbers from here on are written with two decimals, smaller ones with six digits."""

_SYNTAX = re.compile(r"[\\`*<|~&]|\](?=\()|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What would make an image, HTML, emphasis or another cell of a text."""


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[bool] = (), limit: int | None = None
) -> str:
    """A table without padding, for the UI shows only a short text at once. Values are escaped.

    Parameters
    ----------
    numbers
        For each column whether it is aligned as numbers are; by default none is.
    limit
        Characters that the table may have: rows that do not fit are left out, and the last row says how many.
    """
    right = numbers or [False] * len(header)
    head = [_line(header), _line(["--:" if one else ":--" for one in right])]
    body = [_line([cell(value) for value in row]) for row in rows]
    if limit is not None and sum(len(line) + 1 for line in [*head, *body]) > limit:
        more = _line([f"… {len(body)} more", *[""] * (len(header) - 1)])
        fit, used = 0, sum(len(line) + 1 for line in [*head, more])
        while used + len(body[fit]) + 1 <= limit:
            used += len(body[fit]) + 1
            fit += 1
        body = [*body[:fit], _line([f"… {len(body) - fit} more", *[""] * (len(header) - 1)])]
    return "\n".join([*head, *body])


def short_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table that the UI shows at once: text in the first column, numbers in the others."""
    return markdown_table(header, rows, [False, *[True] * (len(header) - 1)], limit=INLINE)


def _line(cells: Sequence[str]) -> str:
    return f"|{'|'.join(cells)}|"


def cell(value: Any) -> str:
    """A value as text: nothing for null, times without their zone, no Markdown in it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= LARGE else f"{value:.6g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return escaped(" ".join(str(value).split()))


def escaped(text: str) -> str:
    r"""Text from data in Markdown, so that it shows as it is: a brand must not become an image that is fetched.

    >>> print(escaped("![x](http://x.y/z.png)"))
    ![x\](http://x.y/z.png)
    """
    return _SYNTAX.sub(lambda match: "\\" + match.group(), text)


def behind_a_link(text: str) -> str:
    """The text, made so long that the UI does not cut it off in its column but shows it in a dialog."""
    return text.ljust(INLINE)
