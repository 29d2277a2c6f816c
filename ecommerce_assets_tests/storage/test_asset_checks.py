"""Dagster's asset checks report the results that are recorded with a version."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from ecommerce_assets.storage.asset_checks import asset_checks, failures, outcome
from ecommerce_assets.storage.checks import Check, CheckContext, Outcome, rule, run_checks
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import CheckResult, Stats
from ecommerce_assets_tests.helpers import put_table, version_of

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
POSITIVE = rule("positive", "Nothing is below 0.", "views < 0")


def result(passed: bool = True, name: str = "positive", blocking: bool = True, **more: object) -> CheckResult:
    message = "" if passed else "2 of 3 rows"
    return CheckResult.model_validate({"name": name, "blocking": blocking, "passed": passed, "message": message} | more)


def evaluated(*results: CheckResult) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(**outcome("users", POSITIVE, version_of("users", "v1", checks=results)))


def run_checks_alone(data_dir: Path, *checks: Check, on_demand: bool = False) -> dg.AssetCheckEvaluation:
    """Returns the evaluation of a run without a materialisation."""
    job = dg.define_asset_job("checks", dg.AssetSelection.checks_for_assets("users"))
    reported = asset_checks("users", checks, str(data_dir), on_demand=on_demand)
    defs = dg.Definitions([dg.AssetSpec("users")], asset_checks=[reported], jobs=[job])
    [evaluation] = defs.resolve_job_def("checks").execute_in_process(raise_on_error=False).get_asset_check_evaluations()
    return evaluation


def test_the_newest_version_is_reported(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    put_table(lake, "users", checks=(result(),))
    put_table(lake, "users", checks=(result(passed=False, blocking=False),))
    found = run_checks_alone(tmp_path, POSITIVE)
    assert (found.passed, found.severity, found.metadata["version"].value) == (False, WARN, "1")
    assert found.description == "2 of 3 rows"


def test_numbers_of_numpy_are_recorded_as_those_of_python() -> None:
    outcome_of_numpy = Outcome(values={"users": np.float64(2e6), "days": np.int64(3)})
    [recorded] = run_checks([Check("few", "There are few.", lambda _: outcome_of_numpy)], CheckContext(Stats()))
    assert {name: type(value) for name, value in recorded.values.items()} == {"users": float, "days": int}


def test_a_check_that_is_newer_than_the_version_is_a_warning(tmp_path: Path) -> None:
    put_table(Lake(str(tmp_path)), "users")
    found = run_checks_alone(tmp_path, POSITIVE)
    assert (found.passed, found.severity) == (False, WARN)
    assert found.description == "Not checked: version 0 was written before the check existed."


@pytest.mark.parametrize("on_demand", [False, True])
def test_without_a_version_only_checks_on_demand_pass(tmp_path: Path, on_demand: bool) -> None:
    found = run_checks_alone(tmp_path, POSITIVE, on_demand=on_demand)
    assert (found.passed, found.severity) == (on_demand, ERROR)
    assert found.description == "Not checked: there is no version yet."


def test_the_recorded_result_decides_whether_a_failure_blocks() -> None:
    passed, failed = evaluated(result(values={"rows": 3}, checked="0 of 3 rows")), evaluated(result(passed=False))
    warning = evaluated(result(passed=False, blocking=False))
    assert (passed.passed, passed.metadata["rows"].value, passed.description) == (True, 3, "0 of 3 rows")
    assert (failed.passed, failed.severity, failed.description) == (False, ERROR, "2 of 3 rows")
    assert (warning.passed, warning.severity) == (False, WARN)


def test_days_are_reported_together() -> None:
    days = [f"2019-10-{day:02d}" for day in range(1, 26)]
    found = evaluated(*(result(passed=day == days[0], partition=day) for day in days))
    assert (found.passed, found.metadata["days"].value) == (False, 25)
    assert str(found.description).startswith("2019-10-02: 2 of 3 rows; 2019-10-03: 2 of 3 rows; ")
    assert failures([result(passed=False)] * 25).endswith("; 2 of 3 rows; 5 more")
