"""The checks of the asset delivered."""

from __future__ import annotations

from ecommerce_assets.storage.checks import Check, CheckContext, Outcome


def _all_rows_delivered(context: CheckContext) -> Outcome:
    delivered = context.document["tables"]
    rows = {asset: delivered[asset]["rows"] if asset in delivered else 0 for asset in context.versions}
    wrong = [
        f"the target has {rows[asset]:,} rows of {asset} {version.version}, which has {version.stats.rows:,}"
        for asset, version in context.versions.items()
        if rows[asset] != version.stats.rows
    ]
    return Outcome(
        "; ".join(wrong), checked=", ".join(f"{asset}: {count:,} rows" for asset, count in sorted(rows.items()))
    )


DELIVERED_CHECKS = (
    Check("all_rows_delivered", "The target has as many rows as the published versions.", _all_rows_delivered),
)
