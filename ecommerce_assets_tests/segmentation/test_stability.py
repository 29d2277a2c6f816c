"""Who changed segment: two versions by hand, and what the audit and the note say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.segmentation.stability import CHANGED_SEGMENT, MOVED, NAMES_STABLE, moved_users
from ecommerce_assets.storage.audits import Evidence, probe, run_audits
from ecommerce_assets.storage.before import Before
from ecommerce_assets.storage.manifest import AuditResult

A, B, C = "VIP_Customers", "Loyal_Customers", "Dormant_Users"
BEFORE = Before("20251101_120000_ab", 5, parameters={"k": 5, "seed": 42})


def version(spark: SparkSession, names: dict[Any, str], id_type: str = "bigint") -> DataFrame:
    return spark.createDataFrame(list(names.items()), f"user_id {id_type}, segment string")


def moved(now: DataFrame, before: DataFrame | None) -> dict[str, Any]:
    def read(asset: str) -> DataFrame:
        assert (asset, before is not None) == ("segmented_users", True)
        assert before is not None
        return before

    found = probe(now, [moved_users], Evidence({}, before=[BEFORE] if before else []), read)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]  # as it comes back from the manifest


def evidence(users: int, changed: int, **parameters: Any) -> Evidence:
    moves = [{"users": changed, "old": A, "now": B}]
    found = {"users": users, "changed": changed, "new": 3, "gone": 2, "moves": moves}
    return Evidence({MOVED: found, "rows": users + 3}, parameters={"k": 5, **parameters}, before=[BEFORE])


def judged(found: Evidence) -> AuditResult:
    [result] = run_audits([NAMES_STABLE], found)
    assert not result.blocking
    return result


def test_moves_by_hand(spark: SparkSession) -> None:
    old = version(spark, {1: A, 2: A, 3: B, 4: C, 5: C, 6: C})
    now = version(spark, {1: A, 2: B, 3: A, 4: A, 5: A, 7: A, 8: B, 9: C})
    assert moved(now, old)[MOVED] == {
        "users": 5,
        "changed": 4,
        "new": 3,
        "gone": 1,
        "moves": [
            {"users": 2, "old": C, "now": A},
            {"users": 1, "old": A, "now": B},
            {"users": 1, "old": B, "now": A},
        ],
    }


def test_versions_without_common_users(spark: SparkSession) -> None:
    assert moved(version(spark, {1: A}), version(spark, {2: A, 3: B}))[MOVED] == {
        "users": 0,
        "changed": 0,
        "new": 1,
        "gone": 2,
        "moves": [],
    }


def test_ids_that_became_text_are_the_same_users(spark: SparkSession) -> None:
    found = moved(version(spark, {"1": B, "x": A}, "string"), version(spark, {1: A}))[MOVED]
    assert (found["users"], found["changed"], found["new"]) == (1, 1, 1)


def test_a_first_version_says_so_and_passes(spark: SparkSession) -> None:
    first = Evidence({**moved(version(spark, {1: A}), None), "rows": 1})
    assert (judged(first).passed, judged(first).figures) == (
        True,
        {"compared with": "nothing: there is no version before"},
    )
    assert CHANGED_SEGMENT.write(first) == "There is no version before."


@pytest.mark.parametrize(
    ("users", "changed", "passes"), [(400, 100, True), (400, 101, False), (199, 199, True), (0, 0, True)]
)
def test_a_warning_above_a_quarter(users: int, changed: int, passes: bool) -> None:
    assert judged(evidence(users, changed)).passed == passes


def test_what_is_said() -> None:
    found = judged(evidence(3_900, 1_950, k=7))
    assert found.message == "50.0 % of 3,900 users changed segment since 20251101_120000_ab (parameters: k 5 → 7)"
    assert found.figures == {
        "compared with": "20251101_120000_ab",
        "changed segment": "50.0 % of 3,900 users",
        "new users": 3,
        "gone users": 2,
        "VIP_Customers → Loyal_Customers": 1_950,
    }
    assert CHANGED_SEGMENT.write(evidence(3_900, 121)) == (
        "3.1 % of 3,900 users since 20251101_120000_ab; 3 new, 2 gone. Most: VIP_Customers → Loyal_Customers 121"
    )
