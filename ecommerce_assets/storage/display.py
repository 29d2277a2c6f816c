"""Plots and short texts about a version for Dagster's UI, computed from its metadata without reading its rows."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ecommerce_assets.storage.checks import CheckContext

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    from matplotlib.figure import Figure

COLOURS = 256
"""Maximum size of a PNG's palette; a file with a palette is a third as large."""

Warn = Callable[[str], object]


ReadColumns = Callable[[str, Sequence[str], "pc.Expression"], "pa.Table"]
"""Columns of those rows that a filter selects, of an input of the step, by the name of its table."""

Preview = Callable[["pa.Table", ReadColumns], "pa.Table"]
"""From the first rows of a table: the rows and columns that the UI shows of it."""


@dataclass(frozen=True)
class Plot:
    """One plot of a version.

    Attributes
    ----------
    name
        Heading.
    caption
        One or two sentences: what it shows and how to read it.
    draw
        Returns the figure; None if there is nothing to show. For a daily asset, `days` of the context also has the
        stats of all stored days of the asset itself.
    """

    name: str
    caption: str
    draw: Callable[[CheckContext], Figure | None]


@dataclass(frozen=True)
class Note:
    """A short text.

    Attributes
    ----------
    name
        Its metadata key.
    write
        Returns the Markdown; None if there is nothing to show.
    """

    name: str
    write: Callable[[CheckContext], str | None]


def draw_plots(plots: Sequence[Plot], context: CheckContext, warn: Warn) -> str:
    """Returns all plots below each other, as Markdown with embedded PNGs; empty if there are none.

    An error in a plot is a warning, because the version is already published.
    """

    def draw(plot: Plot) -> str | None:
        figure = plot.draw(context)
        if figure is None:
            return None
        picture = base64.b64encode(png(figure)).decode()
        return f"#### {plot.name}\n\n{plot.caption}\n\n![{plot.name}](data:image/png;base64,{picture})"

    return "\n\n".join(_without_errors({plot.name: partial(draw, plot) for plot in plots}, warn).values())


def write_notes(notes: Sequence[Note], context: CheckContext, warn: Warn) -> dict[str, str]:
    """Returns all notes by name. An error is a warning, as with plots."""
    return _without_errors({note.name: partial(note.write, context) for note in notes}, warn)


def _without_errors(makers: Mapping[str, Callable[[], str | None]], warn: Warn) -> dict[str, str]:
    texts = {}
    for name, make in makers.items():
        try:
            text = make()
            if text is not None:
                texts[name] = text
        except Exception as error:
            warn(f"{name!r} could not be shown ({type(error).__name__}: {error}).")
    return texts


def png(figure: Figure) -> bytes:
    """Returns a figure as a PNG with a palette."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    drawn.seek(0)
    Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()
