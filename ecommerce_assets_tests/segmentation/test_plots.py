"""The plots and notes of segments and of the quality by k, for usual and unusual shops."""

from __future__ import annotations

import base64
import re
from dataclasses import asdict

import pytest

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES
from ecommerce_assets.segmentation.plots import (
    COLUMNS,
    MAX_SEGMENTS_SHOWN,
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

MAX_BYTES = 100_000


def shop(segments: int, users: int = 100, spent: float = 50.0, has_views: bool = True) -> CheckContext:
    """Returns the context of segments whose sizes and means grow with their number."""
    profiles = profile(
        [
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
    )
    return CheckContext(Stats(results={"segments": [asdict(each) for each in profiles], "has_views": has_views}))


@pytest.mark.parametrize(
    "context",
    [shop(40, users=3_000_000, spent=4e9), shop(1, spent=0.0)],
    ids=["many segments and large numbers", "one segment without revenue"],
)
def test_plots_of_segments_are_drawn_and_small(context: CheckContext) -> None:
    markdown = draw_plots(SEGMENTED_USERS_PLOTS, context, pytest.fail)
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", markdown)
    assert [len(base64.b64decode(picture)) < MAX_BYTES for picture in pictures] == [True, True]


def test_the_heat_map_shows_every_feature_of_the_largest_segments() -> None:
    assert tuple(COLUMNS) == CLUSTERING_FEATURES
    figure = segment_profiles(shop(MAX_SEGMENTS_SHOWN + 5))
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == MAX_SEGMENTS_SHOWN
    assert labels[0] == "Casual_Browsers #19  9.5 %"


def test_notes_list_the_segments_by_size() -> None:
    notes = write_notes(SEGMENTED_USERS_NOTES, shop(2), print)
    assert notes["segments at a glance"].splitlines() == [
        "|segment|users|share|revenue|",
        "|:--|--:|--:|--:|",
        "|Loyal_Customers|200|66.7 %|100.0 %|",
        "|VIP_Customers|100|33.3 %|0.0 %|",
    ]
    assert [line[:30] for line in notes["segments in words"].splitlines()] == [
        "- **Loyal_Customers**: 200 use",
        "- **VIP_Customers**: 100 users",
    ]
    without_views = write_notes(SEGMENTED_USERS_NOTES, shop(2, has_views=False), print)
    assert "Active_Buyers" in without_views["segments in words"]


@pytest.mark.parametrize(
    ("silhouettes", "k_in_use"), [((0.9, 0.8, 0.7, *[None] * 6), 5), ((None,) * 9, 2)], ids=["four users", "two users"]
)
def test_quality_by_k_marks_the_k_in_use(silhouettes: tuple[float | None, ...], k_in_use: int) -> None:
    by_k = [{"k": k, "clusters": min(k, 4), "silhouette": s, "cost": 9e6 / k} for k, s in enumerate(silhouettes, 2)]
    context = CheckContext(Stats(), document={"k_in_use": k_in_use, "by_k": by_k})
    figure = SEGMENTATION_BY_K_PLOTS[0].draw(context)
    assert figure is not None
    assert len(png(figure)) < MAX_BYTES
    [table] = write_notes(SEGMENTATION_BY_K_NOTES, context, print).values()
    assert table.count("(in use)") == 1
