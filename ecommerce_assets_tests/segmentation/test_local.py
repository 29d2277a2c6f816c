"""K-Means and silhouette in this process."""

import numpy as np
import pyarrow as pa
import pytest

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.segmentation.local import LocalUsers, feature_matrix, segment_names, silhouette
from ecommerce_assets.segmentation.model import SegmentationParameters


def features(*groups: tuple[int, float, float]) -> pa.Table:
    """Returns users in groups, each given by its number of users, monetary and recency; monetary differs a little."""
    rows = [(value + n / 100, recency) for count, value, recency in groups for n in range(count)]
    columns = {"user_id": list(range(len(rows))), **{name: [0.0] * len(rows) for name in CLUSTERING_FEATURES}}
    columns |= {"monetary": [row[0] for row in rows], "recency": [row[1] for row in rows]}
    columns |= {"frequency": [20.0 if row[0] > 500 else 1.0 for row in rows]}
    return pa.table(columns)


GROUPS = features((5, 1000.0, 3.0), (7, 10.0, 100.0), (4, 20.0, 5.0))


def test_groups_become_segments_with_their_names() -> None:
    model = LocalUsers(GROUPS).fit(SegmentationParameters(k=3)).model
    numbers = model.predict(feature_matrix(GROUPS))
    names = segment_names(feature_matrix(GROUPS), numbers, 3)
    assert names[numbers].tolist() == ["VIP_Customers"] * 5 + ["Dormant_Users"] * 7 + ["Casual_Browsers"] * 4
    later = features((1, 900.0, 5.0), (1, 12.0, 90.0))
    assert names[model.predict(feature_matrix(later))].tolist() == ["VIP_Customers", "Dormant_Users"]


def test_the_order_of_the_users_changes_nothing() -> None:
    shuffled = GROUPS.take(pa.array(np.random.default_rng(0).permutation(GROUPS.num_rows)))
    one, other = (LocalUsers(table).fit(SegmentationParameters(k=4)) for table in (GROUPS, shuffled))
    np.testing.assert_array_equal(one.model.centres, other.model.centres)
    assert (one.cost, one.silhouette) == (other.cost, other.silhouette)


@pytest.mark.parametrize("users", [1, 3])
def test_clusters_are_at_most_as_many_as_different_users(users: int) -> None:
    fit = LocalUsers(GROUPS.take(pa.array([0] * users))).fit(SegmentationParameters(k=5))
    assert fit.model.centres.tolist() == [[0.0] * 8]
    assert (fit.cost, fit.silhouette) == (0.0, None)


def test_a_constant_feature_is_scaled_to_zero() -> None:
    # In floating point the mean of many 0.1 is not exactly 0.1.
    price = pa.array([0.1] * GROUPS.num_rows)
    table = GROUPS.set_column(GROUPS.schema.get_field_index("avg_price"), "avg_price", price)
    model = LocalUsers(table).fit(SegmentationParameters(k=3)).model
    assert model.std[-1] == 0.0
    assert model.centres[:, -1].tolist() == [0.0] * 3


def test_null_counts_as_zero() -> None:
    position = GROUPS.schema.get_field_index("cart_abandonment")
    nulls = GROUPS.set_column(position, "cart_abandonment", pa.nulls(GROUPS.num_rows, pa.float64()))
    one, other = (LocalUsers(table).fit(SegmentationParameters(k=3)).model for table in (GROUPS, nulls))
    np.testing.assert_array_equal(one.centres, other.centres)


def test_silhouette_of_points_on_a_line() -> None:
    # Squared distances: the first is 1 from its own, (100 + 121) / 2 from the others; the last is alone.
    points = np.array([[0.0], [1.0], [10.0], [11.0], [50.0]])
    each = [1 - 1 / 110.5, 1 - 1 / 90.5, 1 - 1 / 90.5, 1 - 1 / 110.5, 0.0]
    assert silhouette(points, np.array([0, 0, 1, 1, 2])) == pytest.approx(np.mean(each), abs=1e-12)
