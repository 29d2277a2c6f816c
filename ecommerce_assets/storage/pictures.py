"""Pictures of a version, drawn from its manifest alone, on their way into Dagster's metadata.

So any version can be drawn again, and no picture costs a pass over the data. What a picture shows is the business of
the room that the asset belongs to.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecommerce_assets.storage.audits import Evidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = 256
"""Of a picture's palette: as many as a PNG takes, for gradients; a file with a palette is a third as large."""


@dataclass(frozen=True)
class Picture:
    """One picture of a version.

    Attributes
    ----------
    name
        Heading.
    caption
        What it shows and how to read it, one or two sentences.
    draw
        Makes the figure; None where there is nothing to show. Of a daily asset the evidence has, under its own name,
        all days as readers see them.
    """

    name: str
    caption: str
    draw: Callable[[Evidence], Figure | None]


def markdown(pictures: Sequence[Picture], evidence: Evidence, warn: Callable[[str], None]) -> str | None:
    """All pictures one below the other; None where there are none.

    A picture must never fail a version that is published: what goes wrong becomes a warning.
    """
    parts = []
    for picture in pictures:
        try:
            figure = picture.draw(evidence)
            if figure is not None:
                parts.append(f"#### {picture.name}\n\n{picture.caption}\n\n{image(figure, picture.name)}")
        except Exception as error:
            warn(f"The picture {picture.name!r} could not be drawn ({type(error).__name__}: {error}).")
    return "\n\n".join(parts) or None


def image(figure: Figure, name: str) -> str:
    """A figure as Markdown that holds the PNG itself."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png(figure)).decode()})"


def png(figure: Figure) -> bytes:
    """A figure as a PNG with a palette."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    drawn.seek(0)
    Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()
