"""Metrics of a batch, summed by slice and bucket."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from ecommerce_assets.recommendation.lists import SOURCES, Lists
from ecommerce_assets.recommendation.scores import BUCKETS, USER_METRICS, Relevant, Scores, score_lists

CATEGORY = np.array([0, 0, 1, 1, 2, -1])


def lists_of(*rows: list[int], source: str = "als") -> Lists:
    """Lists of three places."""
    lists = Lists.empty(len(rows), 3)
    for user, row in enumerate(rows):
        lists.positions[user, : len(row)] = row
        lists.sources[user, : len(row)] = SOURCES.index(source)
    return lists


LISTS = {"ours": lists_of([2, 4, 0], [1, 0], [], [3, 2, 1], source="latest"), "popular": lists_of(*[[0, 1, 2]] * 4)}
# Two, one, one and three products are relevant; the model does not know one of the last user's.
RELEVANT = Relevant(np.array([0, 0, 1, 2, 3, 3]), np.array([2, 0, 1, 5, 1, 4]), np.array([2, 1, 1, 3]))
MEMBERS = {"even": np.array([True, False, True, False]), "nobody": np.zeros(4, np.bool_)}
IN_BUCKETS = np.array([7, 9, 7, 199])


def scores_of(*users: int) -> Scores:
    rows = np.array(users, np.int64)
    parts = {n: Lists(all_.positions[rows], all_.scores[rows], all_.sources[rows]) for n, all_ in LISTS.items()}
    chosen = np.isin(RELEVANT.owners, rows)
    owners = np.searchsorted(rows, RELEVANT.owners[chosen])
    relevant = Relevant(owners, RELEVANT.positions[chosen], RELEVANT.counts[rows])
    slices = {name: members[rows] for name, members in MEMBERS.items()}
    return score_lists(parts, "ours", "popular", relevant, CATEGORY, slices, IN_BUCKETS[rows])


@pytest.fixture(scope="module")
def whole() -> Scores:
    return scores_of(0, 1, 2, 3)


def test_means_by_hand(whole: Scores) -> None:
    assert whole.users == 4
    # Hits: at ranks 1 and 3; at rank 1; none; at rank 3.
    assert whole.mean("ours", "precision") == pytest.approx((2 / 3 + 1 / 3 + 0 + 1 / 3) / 4)
    assert whole.mean("ours", "recall") == pytest.approx((1 + 1 + 0 + 1 / 3) / 4)
    assert whole.mean("ours", "hit_rate") == 3 / 4
    assert whole.mean("ours", "served") == 3 / 4
    # Every one of their hits is among 0, 1, 2.
    assert whole.mean("ours", "serendipity") == 0
    assert whole.mean("popular", "recall") == pytest.approx((1 + 1 + 0 + 1 / 3) / 4)


def test_sums_by_slice_and_bucket(whole: Scores) -> None:
    assert sorted(whole.sums) == ["all", "even"]
    recall = whole.column("ours", "recall")
    assert whole.sums["all"].shape == (BUCKETS, 1 + 2 * len(USER_METRICS))
    for part, expected in {
        "all": {7: (2, 1.0), 9: (1, 1.0), 199: (1, pytest.approx(1 / 3))},
        "even": {7: (2, 1.0)},
    }.items():
        values = whole.sums[part][:, [0, recall]]
        assert {int(n): tuple(values[n].tolist()) for n in np.flatnonzero(values[:, 0])} == expected
    assert whole.mean("ours", "recall", "even") == 1 / 2


def test_shown_products_and_diversity_by_hand(whole: Scores) -> None:
    assert whole.shown.tolist() == [[2, 2, 2, 1, 1, 0], [4, 4, 4, 0, 0, 0]]
    # Categories 1, 2, 0: all differ; 0, 0: none; no list; 1, 1, 0: two of three pairs.
    assert whole.diversity[0].tolist() == pytest.approx([1 + 0 + 2 / 3, 3])
    assert whole.diversity[1].tolist() == pytest.approx([4 * 2 / 3, 4])


def test_users_per_source_are_those_of_the_published_lists(whole: Scores) -> None:
    assert whole.users_per_source == {source: 3 if source == "latest" else 0 for source in SOURCES}


def test_two_batches_add_up_to_one(whole: Scores) -> None:
    for added in (scores_of(0, 2) + scores_of(1, 3), Scores(("ours", "popular")) + scores_of(0, 1, 2) + scores_of(3)):
        assert added.systems == whole.systems
        assert sorted(added.sums) == sorted(whole.sums)
        for part, values in whole.sums.items():
            assert added.sums[part] == pytest.approx(values)
        assert added.shown.tolist() == whole.shown.tolist()
        assert added.diversity == pytest.approx(whole.diversity)
        assert added.users_per_source == whole.users_per_source


def test_scores_without_users_add_nothing(whole: Scores) -> None:
    assert (Scores(("ours", "popular")) + Scores(("ours", "popular"))).users == 0
    assert (whole + Scores(("ours", "popular"))).users == 4
    assert pickle.loads(pickle.dumps(whole)).mean("ours", "recall") == whole.mean("ours", "recall")
