"""Markdown, notes and plots for the UI: values are escaped, and errors are warnings."""

from __future__ import annotations

import html
import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Note, Plot, draw_plots, write_notes
from ecommerce_assets.storage.markdown import INLINE, cell, markdown_table, short_table
from ecommerce_assets.storage.version import Stats

CELL = re.compile(r"((?:\\.|[^\\|])*)\|")
"""A cell of a row without its first bar, by GitHub's rules, which are those of the UI: a backslash escapes a bar."""
PIECES = st.sampled_from(["a", "B", "_", "__", "*", "`", "|", "\\", "~~", "<b>", "&amp;", "![", "](", ")", "://", "\n"])


@settings(deadline=None)
@given(st.lists(st.lists(PIECES, max_size=8).map("".join), min_size=1, max_size=3))
@example(["![x](http://x.y/z.png)", "[x](http://x.y)"])
@example(["<img src=http://x.y/z.png>", "<http://x.y>"])
@example(["a|b\n|c|", "`a\\|b`", "\\"])
@example(["&lt;b&gt;", "__a__ _b_ ~~c~~"])
def test_a_value_is_shown_as_text_in_one_cell(values: list[str]) -> None:
    *_, row = markdown_table(["column"] * len(values), [values]).split("\n")
    shown = [MarkdownIt().enable("strikethrough").renderInline(found) for found in CELL.findall(row[1:])]
    assert not any("<" in found for found in shown)
    assert [html.unescape(found) for found in shown] == [" ".join(value.split()) for value in values]


def test_numbers_are_short_and_null_is_empty() -> None:
    assert [cell(value) for value in (None, 7, 1234567, 0.1 + 0.2, 1234567.891)] == [
        *("", "7", "1234567", "0.3", "1234567.89")
    ]


def test_a_short_table_has_the_number_of_omitted_rows() -> None:
    rows = [[f"segment {number}", f"{number:,}"] for number in range(200)]
    table = short_table(["segment", "users"], rows)
    *shown, last = table.split("\n")[2:]
    assert len(table) <= INLINE
    assert last == f"|… {200 - len(shown)} more||"
    assert short_table(["segment", "users"], rows[:2]).split("\n")[2:] == ["|segment 0|0|", "|segment 1|1|"]


def test_an_error_in_a_note_or_plot_is_a_warning() -> None:
    def broken(_: CheckContext) -> Any:
        raise ZeroDivisionError("no users")

    warnings: list[str] = []
    context = CheckContext(Stats())
    notes = [Note("good", lambda _: "fine"), Note("silent", lambda _: None), Note("bad", broken)]
    assert write_notes(notes, context, warnings.append) == {"good": "fine"}
    assert draw_plots([Plot("worse", "", broken), Plot("none", "", lambda _: None)], context, warnings.append) == ""
    assert [("'bad'" in w, "'worse'" in w, "no users" in w) for w in warnings] == [
        (True, False, True),
        (False, True, True),
    ]
