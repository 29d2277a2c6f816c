"""The profile of segments: numbers computed by hand, and sentences."""

from __future__ import annotations

import json
import math
from statistics import fmean, pstdev, pvariance

import pytest

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.segmentation.profile import WORDS, Segment, differences, profile

PLAIN = dict.fromkeys(CLUSTERING_FEATURES, 1.0)
NO_SPREAD = dict.fromkeys(CLUSTERING_FEATURES, 0.0)


def segment(number: int, users: int, revenue: float = 0.0, spread: float = 0.0, **means: float) -> Segment:
    """Returns a segment with these means and the variance `spread`; other features have mean 1.0 and no variance."""
    variances = {**NO_SPREAD, **dict.fromkeys(means, spread)}
    return Segment(number, "Casual_Browsers", users, {**PLAIN, **means}, revenue, variances)


def sentences(*segments: Segment) -> list[str]:
    return [each.description for each in profile(segments)]


def test_every_feature_has_words() -> None:
    assert tuple(WORDS) == CLUSTERING_FEATURES


def test_differences_are_in_standard_deviations_of_all_users() -> None:
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
    assert (poor.share, poor.revenue, poor.revenue_share) == (0.3333, 2.0, 0.037)
    assert (rich.share, rich.revenue, rich.revenue_share) == (0.6667, 52.0, 0.963)


def test_a_large_mean_with_a_small_spread_loses_no_digits() -> None:
    # Sums of squares would lose the difference: in floating point, 1e18 + 1 is 1e18.
    segments = [segment(0, 50, avg_price=1e9 - 1), segment(1, 50, avg_price=1e9 + 1)]
    assert [d["avg_price"] for d in differences(segments)] == pytest.approx([-1.0, 1.0])


def test_the_rounding_error_of_a_constant_is_not_a_difference() -> None:
    segments = [segment(0, 3, conversion_rate=0.1), segment(1, 3, conversion_rate=math.nextafter(0.1, 1))]
    assert [d["conversion_rate"] for d in differences(segments)] == [0.0, 0.0]


def test_a_sentence_has_size_revenue_habits_and_differences() -> None:
    best = segment(0, 231, 187_664.4, 1.0, recency=3.2, frequency=14.1, monetary=812.4)
    rest = segment(1, 3_619, 203_303.1, 1.0, recency=40.0, frequency=2.4, monetary=56.17)
    first, second = sentences(best, rest)
    for part in ("231 users (6.0 %)", "48.0 % of the revenue", " 3 days", " 14 days", "812.40"):
        assert part in first
    assert first.rpartition("; ")[2] == (
        "well above average in money spent and days of activity, well below average in days since the last visit."
    )
    for part in ("3,619 users (94.0 %)", "52.0 % of the revenue", " 40 days", " 2.4 days", "56.17"):
        assert part in second
    assert "above" not in second
    assert "below" not in second


def test_a_sentence_has_at_most_three_features_the_largest_difference_first() -> None:
    # Means of 1 ± d and variances of 1 - d² give all users a standard deviation of 1, and segments a difference of d.
    far = {"frequency": 0.6, "avg_price": -0.9, "unique_products": 0.95, "recency": 0.49, "unique_categories": 0.55}
    variances = {**NO_SPREAD, **{name: 1 - d**2 for name, d in far.items()}}
    means = [{**PLAIN, **{name: 1 + sign * d for name, d in far.items()}} for sign in (1, -1)]
    pair = [Segment(n, "x", 10, means[n], 0.0, variances) for n in range(2)]
    assert [s.rpartition("; ")[2] for s in sentences(*pair)] == [
        "well above average in variety of products, well below average in price level, above average in days of "
        "activity.",
        "well below average in variety of products, well above average in price level, below average in days of "
        "activity.",
    ]


@pytest.mark.parametrize(
    ("segments", "parts"),
    [
        ([segment(0, 7, recency=0.2, frequency=1.0, monetary=0.0)], "All 7 users|newest day| 1 day,|nothing spent"),
        ([segment(0, 1, 12_345.6, recency=1.0, monetary=12_345.6)], "The only user| 1 day ago|12,346 spent|no other"),
        (
            [segment(0, 1, monetary=0.0, recency=9.0), segment(1, 999, monetary=0.0, recency=9.0)],
            "1 user (0.1 %)|without revenue| 9 days ago|nothing spent",
        ),
        (
            [segment(0, 1, monetary=0.0), segment(1, 1, 5.0, monetary=5.0)],
            "1 user (50.0 %)|brings no revenue|nothing spent|well below average in money spent",
        ),
        (
            [segment(0, 1, 5.0, monetary=5.0), segment(1, 1, monetary=0.0)],
            "1 user (50.0 %)|brings 100.0 % of the revenue|5.00 spent|well above average in money spent",
        ),
    ],
)
def test_sentences_of_small_and_equal_segments(segments: list[Segment], parts: str) -> None:
    sentence = sentences(*segments)[0]
    assert [part for part in parts.split("|") if part not in sentence] == []


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_nan_and_infinity_are_not_in_profiles(broken: float) -> None:
    profiles = profile([segment(0, 2, broken, monetary=broken), segment(1, 2, 5.0, monetary=2.5)])
    text = json.dumps([[s.difference, s.revenue_share, s.description] for s in profiles], allow_nan=False)
    assert "nan" not in text
    assert "inf" not in text
