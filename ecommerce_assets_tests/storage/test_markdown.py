"""Markdown, notes and plots for the UI: values are escaped, and errors are warnings."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Note, Plot, draw_plots, write_notes
from ecommerce_assets.storage.markdown import INLINE, cell, markdown_table, number_table, percent, sections, with_room
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


@pytest.mark.parametrize(
    ("share", "decimals", "text"),
    [
        (None, 1, ""),
        (0, 1, "0.0 %"),
        (0.0005, 1, "less than 0.1 %"),
        (0.383, 1, "38.3 %"),
        (0.9994, 1, "99.9 %"),
        (0.9995, 1, "more than 99.9 %"),
        (1, 1, "100.0 %"),
        (0.004, 0, "less than 1 %"),
        (0.06, 0, "6 %"),
        (0.999, 0, "more than 99 %"),
        (-0.25, 2, "-25.00 %"),
    ],
)
def test_percent_is_0_or_100_only_if_the_share_is(share: float | None, decimals: int, text: str) -> None:
    assert percent(share, decimals) == text


def test_numbers_are_short_and_null_is_empty() -> None:
    values = (None, 7, 1234567, 0.1 + 0.2, 0.0611736, 5.0, 12.345, 1234567.891)
    assert [cell(value) for value in values] == ["", "7", "1234567", "0.3", "0.06117", "5", "12.35", "1234567.89"]


def test_tables_are_behind_a_link_and_sentences_are_not() -> None:
    table = number_table(["segment", "users"], [["segment 0", "1,000"]])
    assert table == "|segment|users|\n|:--|--:|\n|segment 0|1,000|"
    for text in (table, f"Two users moved:\n\n{table}"):
        assert with_room(text).rstrip() == text
        assert len(with_room(text)) == INLINE
    assert with_room("A | is no table.") == "A | is no table."


def test_sections_of_a_text() -> None:
    text = "# Title\n\nTwo segments.\n\n## Data\n\nTen days.\n\n### More\n\nOf them.\n\n## Limits\n\nNone.\n"
    assert sections(text) == {
        "in short": "Two segments.",
        "Data": "Ten days.\n\n### More\n\nOf them.",
        "Limits": "None.",
    }


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
