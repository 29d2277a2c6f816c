"""Texts and pictures on their way into the UI: what does not fit is left out, and nothing they do fails a version."""

from __future__ import annotations

from ecommerce_assets.storage import notes, pictures
from ecommerce_assets.storage.audits import Evidence
from ecommerce_assets.storage.notes import INLINE, Note
from ecommerce_assets.storage.pictures import Picture


def broken(_: Evidence) -> None:
    raise ZeroDivisionError("no users")


def test_a_table_stays_short_enough_to_be_shown_at_once() -> None:
    rows = [[f"segment {number}", f"{number:,}"] for number in range(200)]
    told = notes.table(["segment", "users"], rows)
    *shown, last = told.split("\n")[2:]
    assert len(told) <= INLINE
    assert last == f"|… {200 - len(shown)} more||"
    assert notes.table(["segment", "users"], rows[:2]).split("\n")[2:] == ["|segment 0|0|", "|segment 1|1|"]


def test_what_goes_wrong_is_a_warning() -> None:
    said: list[str] = []
    found = notes.markdown(
        [Note("good", lambda _: "fine"), Note("silent", lambda _: None), Note("bad", broken)],  # type: ignore[arg-type]
        Evidence({}),
        said.append,
    )
    assert found == {"good": "fine"}
    assert pictures.markdown([Picture("bad", "", broken)], Evidence({}), said.append) is None  # type: ignore[arg-type]
    assert said == [
        "The note 'bad' could not be written (ZeroDivisionError: no users).",
        "The picture 'bad' could not be drawn (ZeroDivisionError: no users).",
    ]
