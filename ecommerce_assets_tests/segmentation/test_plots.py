"""The plots and notes of segments, of usual and of odd shops."""

from __future__ import annotations

import base64
import re

import pytest

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES
from ecommerce_assets.segmentation.plots import (
    COLUMNS,
    MOST_ROWS,
    SEGMENTATION_BY_K_NOTES,
    SEGMENTATION_BY_K_PLOTS,
    SEGMENTED_USERS_NOTES,
    SEGMENTED_USERS_PLOTS,
    segment_profiles,
)
from ecommerce_assets.segmentation.profile import Segment, profile
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import draw_plots, png, write_notes
from ecommerce_assets.storage.version import Stats

MOST_BYTES = 100_000


def shop(segments: int, users: int = 100, spent: float = 50.0, has_views: bool = True) -> CheckContext:
    """Segments of growing size whose means grow with their number."""
    found = [
        Segment(
            n,
            SEGMENT_NAMES[n % len(SEGMENT_NAMES)],
            users * (n + 1),
            {name: spent * n if name == "monetary" else n * 1.5 - 1 for name in CLUSTERING_FEATURES},
            users * (n + 1) * spent * n,
            dict.fromkeys(CLUSTERING_FEATURES, 1.0),
        )
        for n in range(segments)
    ]
    return CheckContext(Stats(results={"segments": profile(found), "has_views": has_views}))


def study(*silhouettes: float | None, k_in_use: int = 5) -> CheckContext:
    by_k = [
        {
            "k": k,
            "clusters": min(k, 4),
            "silhouette": s,
            "cost": 9e6 / k,
            "reason": None if s else "few",
            "seconds": 1.0,
        }
        for k, s in enumerate(silhouettes, 2)
    ]
    return CheckContext(Stats(), document={"k_in_use": k_in_use, "by_k": by_k})


ODD_SHOPS = {
    "usual": shop(5),
    "one segment": shop(1),
    "ten segments": shop(10),
    "forty segments": shop(40),
    "no revenue": shop(3, spent=0.0),
    "large numbers": shop(5, users=3_000_000, spent=4e9),
}


@pytest.mark.parametrize("context", ODD_SHOPS.values(), ids=ODD_SHOPS)
def test_plots_of_segments_are_drawn_and_light(context: CheckContext) -> None:
    warnings: list[str] = []
    found = draw_plots(SEGMENTED_USERS_PLOTS, context, warnings.append)
    assert warnings == []
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", found)
    assert [len(base64.b64decode(picture)) < MOST_BYTES for picture in pictures] == [True, True]


def test_the_heat_map_shows_every_feature_of_the_largest_segments() -> None:
    assert tuple(COLUMNS) == CLUSTERING_FEATURES
    figure = segment_profiles(shop(MOST_ROWS + 5))
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == MOST_ROWS
    assert labels[0] == "Casual_Browsers #19  10 %"


def test_notes_list_the_segments_by_size() -> None:
    notes = write_notes(SEGMENTED_USERS_NOTES, shop(2), print)
    assert notes["segments at a glance"].splitlines() == [
        "|segment|users|share|revenue|",
        "|:--|--:|--:|--:|",
        "|Loyal_Customers|200|67 %|100 %|",
        "|VIP_Customers|100|33 %|0 %|",
    ]
    assert [line[:30] for line in notes["segments in words"].splitlines()] == [
        "- **Loyal_Customers**: 200 use",
        "- **VIP_Customers**: 100 users",
    ]


@pytest.mark.parametrize("has_views", [True, False])
def test_the_note_tells_where_active_buyers_cannot_be(has_views: bool) -> None:
    words = write_notes(SEGMENTED_USERS_NOTES, shop(2, has_views=has_views), print)["segments in words"]
    assert ("Active_Buyers" in words) != has_views


@pytest.mark.parametrize(
    "context",
    [
        study(0.31, 0.42, 0.4, 0.44, 0.39, 0.38, 0.3, 0.29, 0.25),
        study(0.9, 0.8, 0.7, *[None] * 6),
        study(*[None] * 9, k_in_use=2),
    ],
    ids=["usual", "four users", "two users"],
)
def test_quality_by_k_marks_the_k_in_use(context: CheckContext) -> None:
    figure = SEGMENTATION_BY_K_PLOTS[0].draw(context)
    assert figure is not None
    assert len(png(figure)) < MOST_BYTES
    [table] = write_notes(SEGMENTATION_BY_K_NOTES, context, print).values()
    assert table.count("(in use)") == 1
