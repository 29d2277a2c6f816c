"""When als_evaluation holds a model back, when it only warns, and when it has nothing to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ecommerce_assets.recommendation.verdict import VERDICT_AUDITS
from ecommerce_assets.storage.audits import Evidence, run_audits
from ecommerce_assets.storage.before import Before
from ecommerce_assets.storage.manifest import Input

PARAMETERS = {"k": 10, "exclude": "purchased", "min_holdout_users": 100}
CONTENT = [Input(asset="cleaned_events", version="v", fingerprint="f", partitions=("2019-10-01",))]


class Served:
    """Stands for the manifest of the cleaned events that were read."""

    fingerprint = "f"


def facts(published: list[float], difference: list[float], users: int = 500) -> dict[str, Any]:
    ndcg = {"published": published, "published - popularity": difference}
    return {"cutoff": "2019-10-01T12:00:00", "holdout_users": users, "metrics": {"ndcg": ndcg}}


def failed(said: Mapping[str, Any], *before: Before) -> dict[str, str]:
    """Messages by audit; those that hold the version back are marked with an exclamation mark."""
    days: Any = {"cleaned_events": {"2019-10-01": Served()}}
    evidence = Evidence({"rows": 1}, said, PARAMETERS, days=days, before=before)
    results = [result for result in run_audits(VERDICT_AUDITS, evidence) if not result.passed]
    return {f"{result.name}{'!' if result.blocking else ''}": result.message for result in results}


WELL = [0.30, 0.25, 0.35]


@pytest.mark.parametrize(
    ("difference", "users", "names"),
    [
        pytest.param([0.1, 0.05, 0.15], 500, [], id="better"),
        pytest.param([0.0, -0.1, 0.1], 500, ["verdict_clear"], id="straddles zero"),
        pytest.param([-0.1, -0.2, 0.0], 500, ["verdict_clear"], id="touches zero"),
        pytest.param([-0.1, -0.2, -0.05], 500, ["beats_popularity!"], id="worse"),
        pytest.param([-0.1, -0.2, -0.05], 99, ["verdict_clear"], id="worse, but for few users"),
        pytest.param([0.1, 0.05, 0.15], 99, ["verdict_clear"], id="better, but for few users"),
    ],
)
def test_beside_popularity(difference: list[float], users: int, names: list[str]) -> None:
    assert list(failed(facts(WELL, difference, users))) == names


def test_messages() -> None:
    assert failed(facts(WELL, [-0.1, -0.2, -0.05])) == {
        "beats_popularity!": "for 500 holdout users the NDCG at 10 of the published lists, less that of popularity, is "
        "-0.1000 (95 % interval -0.2000 to -0.0500): what is popular would serve them better"
    }
    assert failed(facts(WELL, [0.1, 0.05, 0.15], 3)) == {
        "verdict_clear": "the holdout has 3 users, and a verdict takes 100 (ECOMMERCE_MIN_HOLDOUT_USERS)"
    }
    assert failed({"holdout": "none: there is nobody"}) == {
        "verdict_clear": "the model could not be judged; holdout: none: there is nobody"
    }


BETTER = [0.1, 0.05, 0.15]
BEFORE = Before("v1", facts=facts([0.5, 0.4, 0.6], BETTER), parameters=PARAMETERS, inputs=CONTENT)


def test_beside_the_version_before() -> None:
    assert failed(facts([0.3, 0.25, 0.39], BETTER), BEFORE) == {
        "as_good_as_before!": "for the same 500 holdout users the NDCG at 10 of the published lists is 0.3000 (95 % "
        "interval 0.2500 to 0.3900); in version v1 it was 0.5000 (95 % interval 0.4000 to 0.6000)"
    }
    assert failed(facts([0.35, 0.3, 0.4], BETTER), BEFORE) == {}


@pytest.mark.parametrize(
    "other",
    [
        replace(BEFORE, facts={**BEFORE.facts, "cutoff": "2019-09-30T12:00:00"}),
        replace(BEFORE, facts={**BEFORE.facts, "holdout_users": 501}),
        replace(BEFORE, facts={"holdout": "none"}),
        replace(BEFORE, parameters={**PARAMETERS, "k": 20}),
        replace(BEFORE, parameters={**PARAMETERS, "exclude": "none"}),
        replace(BEFORE, inputs=[CONTENT[0].model_copy(update={"fingerprint": "g"})]),
        replace(BEFORE, inputs=[CONTENT[0].model_copy(update={"partitions": ("2019-10-02",)})]),
    ],
    ids=["cut-off", "users", "none before", "k", "exclude", "content", "days"],
)
def test_another_holdout_is_not_compared_with(other: Before) -> None:
    assert failed(facts([0.3, 0.25, 0.39], BETTER), other) == {}
