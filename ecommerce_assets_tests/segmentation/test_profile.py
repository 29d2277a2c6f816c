"""What sets a segment apart, in numbers worked out by hand and in sentences."""

from __future__ import annotations

import json
import math
from statistics import fmean, pstdev, pvariance
from typing import Any

import pytest

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.segmentation.profile import WORDS, Segment, differences, percent, profile

PLAIN = dict.fromkeys(CLUSTERING_FEATURES, 1.0)
NO_SPREAD = dict.fromkeys(CLUSTERING_FEATURES, 0.0)


def segment(number: int, users: int, revenue: float = 0.0, spread: float = 0.0, **means: float) -> Segment:
    """All features 1.0 but for those given; the variance of those is `spread`."""
    variances = {**NO_SPREAD, **dict.fromkeys(means, spread)}
    return Segment(number, "Casual_Browsers", users, {**PLAIN, **means}, revenue, variances)


def sentences(*segments: Segment) -> list[str]:
    return [found["description"] for found in profile(segments)]


def test_every_feature_has_words() -> None:
    assert tuple(WORDS) == CLUSTERING_FEATURES


def test_differences_by_hand() -> None:
    # Money 0, 2 and 10, 12, 14, 16: mean 9, variance (81 + 49 + 1 + 9 + 25 + 49) / 6.
    low, high = [0.0, 2.0], [10.0, 12.0, 14.0, 16.0]
    deviation = pstdev([*low, *high])
    segments = [
        Segment(n, "x", len(v), {**PLAIN, "monetary": fmean(v)}, sum(v), {**NO_SPREAD, "monetary": pvariance(v)})
        for n, v in enumerate((low, high))
    ]
    [first, second] = differences(segments)
    assert first["monetary"] == pytest.approx((1 - 9) / deviation)
    assert second["monetary"] == pytest.approx((13 - 9) / deviation)
    assert first["recency"] == 0.0, "all users are alike"
    [poor, rich] = profile(segments)
    assert (poor["share"], poor["revenue"], poor["revenue_share"]) == (0.3333, 2.0, 0.037)
    assert (rich["share"], rich["revenue"], rich["revenue_share"]) == (0.6667, 52.0, 0.963)


def test_a_far_mean_with_a_small_spread_keeps_its_digits() -> None:
    # Sums of squares would have lost all of it: 1e9² + 1 is 1e9² to a double.
    segments = [segment(0, 50, avg_price=1e9 - 1), segment(1, 50, avg_price=1e9 + 1)]
    assert [d["avg_price"] for d in differences(segments)] == pytest.approx([-1.0, 1.0])


def test_the_rounding_of_a_constant_is_no_difference() -> None:
    segments = [segment(0, 3, conversion_rate=0.1), segment(1, 3, conversion_rate=math.nextafter(0.1, 1))]
    assert [d["conversion_rate"] for d in differences(segments)] == [0.0, 0.0]


def test_a_sentence_for_an_analyst() -> None:
    best = segment(0, 231, 187_664.4, 1.0, recency=3.2, frequency=14.1, monetary=812.4)
    rest = segment(1, 3_619, 203_303.1, 1.0, recency=40.0, frequency=2.4, monetary=56.17)
    assert sentences(best, rest) == [
        "231 users (6 %) who bring 48 % of the revenue: on average last seen 3 days ago, active on 14 days, 812.40 "
        "spent; well above average in money spent and days of activity, well below average in days since the last "
        "visit.",
        "3,619 users (94 %) who bring 52 % of the revenue: on average last seen 40 days ago, active on 2.4 days, 56.17 "
        "spent; close to the average customer.",
    ]


def test_at_most_three_features_the_farthest_first() -> None:
    # Means of 1 ± d with a variance of 1 - d² within: the deviation of all users is 1, the difference d.
    far = {"frequency": 0.6, "avg_price": -0.9, "unique_products": 0.95, "recency": 0.49, "unique_categories": 0.55}
    pair = [
        Segment(
            n,
            "x",
            10,
            {**PLAIN, **{name: 1 + sign * d for name, d in far.items()}},
            0.0,
            {**NO_SPREAD, **{name: 1 - d**2 for name, d in far.items()}},
        )
        for n, sign in enumerate((1, -1))
    ]
    assert [s.rpartition("; ")[2] for s in sentences(*pair)] == [
        "well above average in variety of products, well below average in price level, above average in days of "
        "activity.",
        "well below average in variety of products, well above average in price level, below average in days of "
        "activity.",
    ]


@pytest.mark.parametrize(
    ("segments", "sentence"),
    [
        (
            [segment(0, 7, recency=0.2, frequency=1.0, monetary=0.0)],
            "All 7 users: on average last seen on the newest day, active on 1 day, nothing spent; there is no other "
            "segment to compare with.",
        ),
        (
            [segment(0, 1, 12_345.6, recency=1.0, frequency=2.0, monetary=12_345.6)],
            "The only user: last seen 1 day ago, active on 2 days, 12,346 spent; there is no other segment to compare "
            "with.",
        ),
        (
            [segment(0, 1, monetary=0.0, recency=9.0), segment(1, 999, monetary=0.0, recency=9.0)],
            "1 user (less than 1 %) in a shop without revenue: last seen 9 days ago, active on 1 day, nothing spent; "
            "close to the average customer.",
        ),
        (
            [segment(0, 1, monetary=0.0), segment(1, 1, 5.0, monetary=5.0)],
            "1 user (50 %) who brings no revenue: last seen 1 day ago, active on 1 day, nothing spent; well below "
            "average in money spent.",
        ),
        (
            [segment(0, 1, 5.0, monetary=5.0), segment(1, 1, monetary=0.0)],
            "1 user (50 %) who brings 100 % of the revenue: last seen 1 day ago, active on 1 day, 5.00 spent; well "
            "above average in money spent.",
        ),
    ],
)
def test_odd_shops(segments: list[Segment], sentence: str) -> None:
    assert sentences(*segments)[0] == sentence


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_no_sentence_speaks_of_nan(broken: float) -> None:
    found: list[Any] = profile([segment(0, 2, broken, monetary=broken), segment(1, 2, 5.0, monetary=2.5)])
    said = json.dumps([[s["difference"], s["revenue_share"], s["description"]] for s in found], allow_nan=False)
    assert "nan" not in said
    assert "inf" not in said


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0 %"), (0.004, "less than 1 %"), (0.06, "6 %"), (0.994, "99 %"), (0.999, "more than 99 %"), (1, "100 %")],
)
def test_percent(share: float, said: str) -> None:
    assert percent(share) == said
