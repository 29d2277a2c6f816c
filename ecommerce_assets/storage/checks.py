"""Asset checks that report what the audits found when the version was written; they compute nothing themselves.

The audits stand in audits.py and with the assets of each room.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from ecommerce_assets.storage.audits import Audit
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.manifest import AuditResult

SHOWN_FAILURES = 20


def audit_checks(
    asset: str, audits: Sequence[Audit], data_dir: str, *, on_demand: bool = False
) -> dg.AssetChecksDefinition:
    """One op that reports every audit of an asset as an asset check.

    A blocking audit that failed held the version (or the day) back before anyone could read it; the failed check tells
    why and keeps what depends on the asset from running on. With `on_demand` it passes while nothing was written.
    """
    specs = [dg.AssetCheckSpec(a.name, asset=asset, description=a.description, blocking=a.blocking) for a in audits]

    @dg.multi_asset_check(specs=specs, name=f"{asset}_checks")
    def report(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        manifest = Lake(data_dir, warn=context.log.warning).attempt(asset, context.run.run_id)
        for audit in audits:
            found = [a for a in manifest.audits if a.name == audit.name] if manifest else []
            if failed := [a for a in found if not a.passed]:
                say = context.log.error if _blocks(audit, failed) else context.log.warning
                say(f"{asset}, check {audit.name}: {_told(failed)}")
            yield _result(asset, audit, found, manifest.version if manifest else None, on_demand=on_demand)

    return report


def _result(
    asset: str, audit: Audit, found: Sequence[AuditResult], version: str | None, *, on_demand: bool
) -> dg.AssetCheckResult:
    failed = [a for a in found if not a.passed]
    about: dict[str, Any] = {"version": version or "none"}
    # A version of before there was this audit has nothing to say of it, which is no reason to keep it back.
    is_older = bool(version) and not found
    unknown = f"Version {version} was written before there was this check." if is_older else "Nothing was written yet."
    if found and found[0].partition:
        about["days"] = len(found)
    if found and not found[0].partition:
        about |= found[0].figures
    if failed:
        # A text, for the check's page and the run's log hide Markdown behind a link.
        about["failed"] = _told(failed)
    return dg.AssetCheckResult(
        passed=not failed if found else on_demand and version is None,
        check_name=audit.name,
        asset_key=asset,
        # What was found decides: an audit may have been softened to a warning for this version.
        severity=dg.AssetCheckSeverity.ERROR if _blocks(audit, failed) and not is_older else dg.AssetCheckSeverity.WARN,
        description=None if found else unknown,
        metadata=about,
    )


def _told(failed: Sequence[AuditResult]) -> str:
    told = "; ".join(f"{a.partition}: {a.message}" if a.partition else a.message for a in failed[:SHOWN_FAILURES])
    return told + (f"; {len(failed) - SHOWN_FAILURES:,} more" if len(failed) > SHOWN_FAILURES else "")


def _blocks(audit: Audit, failed: Sequence[AuditResult]) -> bool:
    return any(result.blocking for result in failed) if failed else audit.blocking
