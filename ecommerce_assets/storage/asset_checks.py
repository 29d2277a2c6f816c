"""Dagster's asset checks: they report the results that the IO manager recorded, and compute nothing."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from ecommerce_assets.storage.checks import Check
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import CheckResult, Version

SHOWN_FAILURES = 20


def check_specs(asset: str, checks: Sequence[Check]) -> list[dg.AssetCheckSpec]:
    """The checks of an asset as Dagster knows them."""
    return [dg.AssetCheckSpec(c.name, asset=asset, description=c.description, blocking=c.blocking) for c in checks]


def asset_checks(
    asset: str, checks: Sequence[Check], data_dir: str, *, on_demand: bool = False
) -> dg.AssetChecksDefinition:
    """One op that reports every check of what the run wrote (or of the newest version).

    A version that a check blocks never gets here: the IO manager reports its checks and fails the step. With
    `on_demand` the checks pass while nothing was written.
    """

    @dg.multi_asset_check(specs=check_specs(asset, checks), name=f"{asset}_checks")
    def report(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        published = Lake(data_dir, context.log.warning).published(asset)
        written = [version for version in published if version.run_id == context.run.run_id]
        version = next(iter([*written, *published]), None)
        for check in checks:
            result = outcome(asset, check, version, on_demand=on_demand)
            if not result["passed"] and version:
                context.log.warning(f"{asset}, check {check.name}: {result['metadata']['failed']}")
            yield dg.AssetCheckResult(**result)

    return report


def outcome(asset: str, check: Check, version: Version | None, *, on_demand: bool = False) -> dict[str, Any]:
    """What a version recorded of a check, as arguments of Dagster's AssetCheckResult and AssetCheckEvaluation."""
    results = [result for result in version.checks if result.name == check.name] if version else []
    failed = [result for result in results if not result.passed]
    blocks = any(result.blocking for result in failed) if failed else check.blocking
    about: dict[str, Any] = {"version": version.version if version else "none"}
    if results and results[0].partition:
        about["days"] = len(results)
    elif results:
        about |= results[0].values
    if failed:
        # Plain text: the check's page and the run's log put Markdown behind a link.
        about["failed"] = failures(failed)
    elif not results:
        about["failed"] = (
            f"not checked: version {version.version} was written before the check existed"
            if version
            else "not checked: nothing was written yet"
        )
    return {
        "asset_key": dg.AssetKey(asset),
        "check_name": check.name,
        "passed": not failed if results else on_demand and version is None,
        # What was recorded decides: a check may have been only a warning for this version.
        "severity": dg.AssetCheckSeverity.ERROR if blocks and (results or not version) else dg.AssetCheckSeverity.WARN,
        "description": None if results else about["failed"],
        "metadata": about,
    }


def failures(failed: Sequence[CheckResult]) -> str:
    """What failed checks say, in a line."""
    sentences = "; ".join(f"{c.partition}: {c.message}" if c.partition else c.message for c in failed[:SHOWN_FAILURES])
    return sentences + (f"; {len(failed) - SHOWN_FAILURES:,} more" if len(failed) > SHOWN_FAILURES else "")
