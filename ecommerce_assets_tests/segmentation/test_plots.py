"""The pictures and notes of segments, of usual and of odd shops."""

from __future__ import annotations

from typing import Any

import pytest

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES
from ecommerce_assets.segmentation.plots import (
    COLUMNS,
    MOST_ROWS,
    SEGMENTATION_BY_K_NOTES,
    SEGMENTATION_BY_K_PICTURES,
    SEGMENTED_USERS_NOTES,
    SEGMENTED_USERS_PICTURES,
    segment_profiles,
)
from ecommerce_assets.segmentation.profile import Segment, profile
from ecommerce_assets.storage import notes, pictures
from ecommerce_assets.storage.audits import Evidence

MOST_BYTES = 100_000


def shop(segments: int, users: int = 100, spent: float = 50.0) -> Evidence:
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
    return Evidence({}, {"segments": profile(found)})


def study(*silhouettes: float | None, k_in_use: int = 5) -> Evidence:
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
    return Evidence({}, document={"k_in_use": k_in_use, "by_k": by_k})


ODD_SHOPS = {
    "usual": shop(5),
    "one segment": shop(1),
    "ten segments": shop(10),
    "forty segments": shop(40),
    "no revenue": shop(3, spent=0.0),
    "large numbers": shop(5, users=3_000_000, spent=4e9),
}


@pytest.mark.parametrize("evidence", ODD_SHOPS.values(), ids=ODD_SHOPS)
def test_pictures_of_segments(evidence: Evidence) -> None:
    warnings: list[str] = []
    found = pictures.markdown(SEGMENTED_USERS_PICTURES, evidence, warnings.append)
    assert (warnings, found is not None and found.count("data:image/png")) == ([], 2)
    for picture in SEGMENTED_USERS_PICTURES:
        figure = picture.draw(evidence)
        assert figure is not None
        assert len(pictures.png(figure)) < MOST_BYTES


def test_the_heat_map_shows_every_feature_of_the_largest_segments() -> None:
    assert tuple(COLUMNS) == CLUSTERING_FEATURES
    figure = segment_profiles(shop(MOST_ROWS + 5))
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == MOST_ROWS
    assert labels[0] == "Casual Browsers #19  10 %"


def test_notes_of_segments() -> None:
    said = notes.markdown(SEGMENTED_USERS_NOTES, shop(2), print)
    assert said["segments at a glance"].splitlines() == [
        "|segment|users|share|revenue|",
        "|:--|--:|--:|--:|",
        "|Loyal Customers|200|67 %|100 %|",
        "|VIP Customers|100|33 %|0 %|",
    ]
    assert said["segments in words"].startswith(
        "- **Loyal Customers**: 200 users (67 %) who bring 100 % of the revenue"
    )
    for segments in (8, 40):
        table = notes.markdown(SEGMENTED_USERS_NOTES, shop(segments, users=3_000_000), print)["segments at a glance"]
        assert len(table) < notes.INLINE
        assert ("more" in table) == (segments == 40)


@pytest.mark.parametrize(
    "evidence",
    [
        study(0.31, 0.42, 0.4, 0.44, 0.39, 0.38, 0.3, 0.29, 0.25),
        study(0.9, 0.8, 0.7, *[None] * 6),
        study(*[None] * 9, k_in_use=2),
    ],
    ids=["usual", "four users", "two users"],
)
def test_quality_by_k(evidence: Evidence) -> None:
    figure = SEGMENTATION_BY_K_PICTURES[0].draw(evidence)
    assert figure is not None
    assert len(pictures.png(figure)) < MOST_BYTES
    [table] = notes.markdown(SEGMENTATION_BY_K_NOTES, evidence, print).values()
    assert len(table) < notes.INLINE
    assert table.count("(in use)") == 1


def test_a_note_that_fails_is_a_warning() -> None:
    warnings: list[str] = []
    broken: Any = Evidence({}, {"segments": [{"users": 1}]})
    assert notes.markdown(SEGMENTED_USERS_NOTES[:1], broken, warnings.append) == {}
    assert warnings == ["The note 'segments at a glance' could not be written (KeyError: 'segment_id')."]
