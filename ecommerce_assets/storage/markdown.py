"""Markdown tables for Dagster's UI. Use `markdown_table`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

INLINE = 1_000
"""Maximum length of Markdown that the UI shows inline; a longer text is behind a link."""

LARGE = 1_000
"""Numbers from this on have two decimals, smaller ones six significant digits."""

_SYNTAX = re.compile(r"[\\`*<|~&]|\](?=\()|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Markdown syntax for images, HTML, emphasis and cells."""


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[bool] = (), limit: int | None = None
) -> str:
    """Returns a table without padding, because the UI shows only short texts inline. Values are escaped.

    Parameters
    ----------
    numbers
        For each column whether it is right-aligned; by default none is.
    limit
        Maximum length; rows that do not fit are omitted, and the last row has their number.
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
    """Returns a table that the UI shows inline: text in the first column, numbers in the others."""
    return markdown_table(header, rows, [False, *[True] * (len(header) - 1)], limit=INLINE)


def _line(cells: Sequence[str]) -> str:
    return f"|{'|'.join(cells)}|"


def cell(value: Any) -> str:
    """Returns a value as escaped text: empty for null, times without their zone."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= LARGE else f"{value:.6g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return escaped(" ".join(str(value).split()))


def escaped(text: str) -> str:
    r"""Returns text with escaped Markdown, so that, for example, a brand cannot embed an image.

    >>> print(escaped("![x](http://x.y/z.png)"))
    ![x\](http://x.y/z.png)
    """
    return _SYNTAX.sub(lambda match: "\\" + match.group(), text)


def behind_a_link(text: str) -> str:
    """Returns the text, padded so that the UI shows it in a dialog instead of cutting it off."""
    return text.ljust(INLINE)
