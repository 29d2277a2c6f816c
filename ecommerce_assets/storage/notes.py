"""Short texts about a version, made from its manifest alone, that Dagster's UI shows among its metadata.

What they say is the business of the room that the asset belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ecommerce_assets.storage.audits import Evidence
from ecommerce_assets.storage.markdown import INLINE


@dataclass(frozen=True)
class Note:
    """One text.

    Attributes
    ----------
    name
        What it is called among the metadata.
    write
        Makes the Markdown; None where there is nothing to say.
    """

    name: str
    write: Callable[[Evidence], str | None]


def markdown(notes: Sequence[Note], evidence: Evidence, warn: Callable[[str], None]) -> dict[str, str]:
    """All notes by name. None may fail a version that is published: what goes wrong becomes a warning."""
    found = {}
    for note in notes:
        try:
            text = note.write(evidence)
            if text is not None:
                found[note.name] = text
        except Exception as error:
            warn(f"The note {note.name!r} could not be written ({type(error).__name__}: {error}).")
    return found


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table without padding: every character counts. The first column is text, the others numbers.

    Rows that do not fit `INLINE` are left out, and the last one says how many.
    """
    lines = [_line(header), _line([":--", *["--:"] * (len(header) - 1)])]
    body = [_line(row) for row in rows]
    room = INLINE - sum(len(line) + 1 for line in lines)
    if sum(len(line) + 1 for line in body) <= room:
        return "\n".join([*lines, *body])
    fit, used = 0, len(_line([f"… {len(body)} more", *[""] * (len(header) - 1)])) + 1
    while used + len(body[fit]) + 1 <= room:
        used += len(body[fit]) + 1
        fit += 1
    return "\n".join([*lines, *body[:fit], _line([f"… {len(body) - fit} more", *[""] * (len(header) - 1)])])


def _line(cells: Sequence[str]) -> str:
    return f"|{'|'.join(cells)}|"
