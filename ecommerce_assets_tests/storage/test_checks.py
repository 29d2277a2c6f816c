"""What an asset check says where it is asked for by itself: of a version from before it, and of none at all."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from ecommerce_assets.storage.audits import rule
from ecommerce_assets.storage.checks import audit_checks


def asked(data_dir: Path) -> dg.AssetCheckEvaluation:
    checks = audit_checks("user_features", [rule("new_rule", "Nothing is below 0.", "views < 0")], str(data_dir))
    job = dg.define_asset_job("checks", dg.AssetSelection.checks_for_assets("user_features"))
    defs = dg.Definitions([dg.AssetSpec("user_features")], asset_checks=[checks], jobs=[job])
    result = defs.resolve_job_def("checks").execute_in_process(raise_on_error=False)
    [evaluation] = result.get_asset_check_evaluations()
    return evaluation


def test_a_version_of_before_the_check_is_no_error(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    found = asked(ran[0])
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (found.description or "").endswith("was written before there was this check.")


def test_nothing_there(tmp_path: Path) -> None:
    found = asked(tmp_path)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert found.description == "Nothing was written yet."
