"""K-Means in this process."""

import numpy as np
import pyarrow as pa
import pytest

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.segmentation.in_process import LocalSegmentation
from ecommerce_assets.segmentation.pipeline import SegmentationParameters


def features(*groups: tuple[int, float, float]) -> pa.Table:
    """Users in groups: how many, their monetary value, their recency; they differ by a little."""
    rows = [(value + n / 100, recency) for count, value, recency in groups for n in range(count)]
    columns = {name: [0.0] * len(rows) for name in CLUSTERING_FEATURES}
    columns |= {"monetary": [row[0] for row in rows], "recency": [row[1] for row in rows]}
    columns |= {"frequency": [20.0 if row[0] > 500 else 1.0 for row in rows]}
    return pa.table(columns)


GROUPS = features((5, 1000.0, 3.0), (7, 10.0, 100.0), (4, 20.0, 5.0))


def test_groups_become_segments_with_their_names() -> None:
    segmentation = LocalSegmentation.fit(GROUPS, SegmentationParameters(k=3))
    names = segmentation.segments(GROUPS).tolist()
    assert names == ["VIP_Customers"] * 5 + ["Dormant_Users"] * 7 + ["Casual_Browsers"] * 4
    later = features((1, 900.0, 5.0), (1, 12.0, 90.0))
    assert segmentation.segments(later).tolist() == ["VIP_Customers", "Dormant_Users"]


def test_two_fits_are_the_same() -> None:
    one, other = (LocalSegmentation.fit(GROUPS, SegmentationParameters(k=4)) for _ in range(2))
    np.testing.assert_array_equal(one.centres, other.centres)


@pytest.mark.parametrize("users", [1, 3])
def test_there_are_no_more_clusters_than_different_users(users: int) -> None:
    same = GROUPS.take(pa.array([0] * users))
    segmentation = LocalSegmentation.fit(same, SegmentationParameters(k=5))
    assert len(segmentation.centres) == 1
    assert segmentation.segments(same).tolist() == ["VIP_Customers"] * users


def test_null_counts_as_zero() -> None:
    position = GROUPS.schema.get_field_index("cart_abandonment")
    nulls = GROUPS.set_column(position, "cart_abandonment", pa.nulls(GROUPS.num_rows, pa.float64()))
    one, other = (LocalSegmentation.fit(table, SegmentationParameters(k=3)) for table in (GROUPS, nulls))
    np.testing.assert_array_equal(one.centres, other.centres)
