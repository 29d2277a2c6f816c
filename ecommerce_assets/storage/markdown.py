"""Markdown tables for Dagster's UI, and the text of their values. Use `markdown_table`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

INLINE = 1_000
"""Length of Markdown from which on the UI shows it behind a link, in a dialog."""

_SYNTAX = re.compile(r"[\\`*<|~&]|\](?=\()|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Markdown syntax for images, HTML, emphasis and cells."""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[bool] = ()) -> str:
    """Returns a Markdown table with escaped values.

    Parameters
    ----------
    numbers
        For each column whether it is right-aligned; by default none is.
    """
    right = numbers or [False] * len(header)
    head = [_line(header), _line(["--:" if one else ":--" for one in right])]
    return "\n".join([*head, *[_line([cell(value) for value in row]) for row in rows]])


def number_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a Markdown table with text in the first column and numbers in the others."""
    return markdown_table(header, rows, [False, *[True] * (len(header) - 1)])


def _line(cells: Sequence[str]) -> str:
    return f"|{'|'.join(cells)}|"


def cell(value: Any) -> str:
    """Returns a value as escaped text: empty for null, times without their zone, few digits of fractions."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}".removesuffix(".00")
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return escaped(" ".join(str(value).split()))


def percent(share: float | None, decimals: int = 1) -> str:
    """Returns a share as text, an empty string for None; 0 % and 100 % only if the share is exactly that.

    >>> percent(0.3826), percent(0.00001), percent(0.9999, 0)
    ('38.3 %', 'less than 0.1 %', 'more than 99 %')
    """
    if share is None:
        return ""
    step = 10.0**-decimals
    if 0 < share <= step / 200:
        return f"less than {step:.{decimals}f} %"
    if 1 - step / 200 <= share < 1:
        return f"more than {100 - step:.{decimals}f} %"
    return f"{100 * share:.{decimals}f} %"


def escaped(text: str) -> str:
    r"""Returns text with escaped Markdown, so that, for example, a brand cannot embed an image.

    >>> print(escaped("![x](http://x.y/z.png)"))
    ![x\](http://x.y/z.png)
    """
    return _SYNTAX.sub(lambda match: "\\" + match.group(), text)


def with_room(text: str) -> str:
    """Returns a text with a table so long that the UI shows it in a dialog: the column of values cuts tables off."""
    return text.ljust(INLINE) if text.startswith("|") or "\n|" in text else text


def sections(text: str) -> Mapping[str, str]:
    """Returns the sections of a Markdown text by heading (`## `); `in short` is what is before them, without `# `."""
    head, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    titled = [part.partition("\n") for part in parts]
    return {
        "in short": re.sub(r"^# .*\n", "", head).strip(),
        **{title: body.strip() for title, _, body in titled},
    }
