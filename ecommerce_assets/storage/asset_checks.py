"""Dagster's asset checks, which only report the results that the IO manager recorded. Use `asset_checks`."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from ecommerce_assets.storage.checks import Check
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.markdown import escaped
from ecommerce_assets.storage.version import CheckResult, Version

SHOWN_FAILURES = 20

warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)


def check_specs(
    asset: str, checks: Sequence[Check], days: dg.PartitionsDefinition | None = None
) -> list[dg.AssetCheckSpec]:
    """Returns Dagster's specs of an asset's checks; with `days`, each day has its own status."""
    return [
        dg.AssetCheckSpec(
            check.name, asset=asset, description=check.description, blocking=check.blocking, partitions_def=days
        )
        for check in checks
    ]


def asset_checks(
    asset: str,
    checks: Sequence[Check],
    data_dir: str,
    *,
    days: dg.PartitionsDefinition | None = None,
    on_demand: bool = False,
) -> dg.AssetChecksDefinition:
    """Returns one op that reports all checks of the version that the run wrote, or of the newest version.

    The checks of a blocked version are reported by the IO manager, which fails the step.

    Parameters
    ----------
    days
        Partitions of a daily asset.
    on_demand
        The checks pass if there is no version.
    """
    specs = check_specs(asset, checks, days)

    @dg.multi_asset_check(specs=specs, name=f"{asset}_checks")
    def report(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
        published = Lake(data_dir, context.log.warning).published(asset)
        written = [version for version in published if version.run_id == context.run.run_id]
        version = next(iter([*written, *published]), None)
        for check, spec in zip(checks, specs, strict=True):
            result = outcome(asset, check, version, on_demand=on_demand)
            if not result["passed"] and version:
                context.log.warning(f"{asset}, check {check.name}: {_in_words(version, _results(version, check))}")
            if days is None or not version:
                yield dg.AssetCheckResult(**result)
                continue
            yield from evaluations(asset, check, version)
            yield dg.Output(None, output_name=spec.get_python_identifier())

    return report


def evaluations(asset: str, check: Check, version: Version) -> Iterator[dg.AssetCheckEvaluation]:
    """Yields the recorded results of a check for each day of a version; for the version if it has no days."""
    days: list[str | None] = [*sorted(version.days)] or [None]
    results = _results(version, check)
    for day in days:
        of_day = [result for result in results if day is None or result.partition == day]
        part = version.model_copy(update={"checks": tuple(of_day)})
        yield dg.AssetCheckEvaluation(**outcome(asset, check, part), blocking=check.blocking, partition=day)


def outcome(asset: str, check: Check, version: Version | None, *, on_demand: bool = False) -> dict[str, Any]:
    """Returns the recorded result of a check as arguments of Dagster's AssetCheckResult and AssetCheckEvaluation."""
    results = _results(version, check)
    failed = [result for result in results if not result.passed]
    blocks = any(result.blocking for result in failed) if failed else check.blocking
    values: dict[str, Any] = {"version": version.version if version else "none"}
    if len(results) > 1:
        values["days"] = len(results)
    elif results:
        values |= results[0].values
    return {
        "asset_key": dg.AssetKey(asset),
        "check_name": check.name,
        "passed": not failed if results else on_demand and version is None,
        # As recorded: the check may have been only a warning for this version.
        "severity": dg.AssetCheckSeverity.ERROR if blocks and (results or not version) else dg.AssetCheckSeverity.WARN,
        "description": escaped(_in_words(version, results)),
        "metadata": values,
    }


def _results(version: Version | None, check: Check) -> list[CheckResult]:
    """Returns the results of a check, one for each day of a daily version; empty without a version."""
    return [result for result in version.checks if result.name == check.name] if version else []


def _in_words(version: Version | None, results: Sequence[CheckResult]) -> str:
    """Returns what failed or, if nothing failed, what was checked."""
    failed = [result for result in results if not result.passed]
    if failed:
        return failures(failed)
    if results:
        return results[0].checked if len(results) == 1 else f"{len(results):,} days"
    if version:
        return f"Not checked: version {version.version} was written before the check existed."
    return "Not checked: there is no version yet."


def failures(failed: Sequence[CheckResult]) -> str:
    """Returns the messages of failed checks in one line."""
    sentences = "; ".join(f"{c.partition}: {c.message}" if c.partition else c.message for c in failed[:SHOWN_FAILURES])
    return sentences + (f"; {len(failed) - SHOWN_FAILURES:,} more" if len(failed) > SHOWN_FAILURES else "")
