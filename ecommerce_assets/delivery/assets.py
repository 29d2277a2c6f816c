"""The asset delivered, which delivers the tables that a run published to the target `ECOMMERCE_DELIVER_TO`."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from ecommerce_assets.delivery.deliver import deliver_versions, target_of
from ecommerce_assets.delivery.files import Files
from ecommerce_assets.delivery.rows import DeliveryError
from ecommerce_assets.owners import OWNERS
from ecommerce_assets.settings import variable
from ecommerce_assets.storage.checks import Check, CheckContext, Outcome
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset
from ecommerce_assets.storage.version import Version


def _missing_rows(context: CheckContext) -> Outcome:
    delivered = context.document["tables"]
    rows = {asset: delivered[asset]["rows"] if asset in delivered else 0 for asset in context.versions}
    differences = [
        f"the target has {rows[asset]:,} rows of {asset} {version.version}, which has {version.stats.rows:,}"
        for asset, version in context.versions.items()
        if rows[asset] != version.stats.rows
    ]
    return Outcome(
        "; ".join(differences), checked=", ".join(f"{asset}: {count:,} rows" for asset, count in sorted(rows.items()))
    )


DELIVERED_CHECKS = (
    Check("all_rows_delivered", "The target has as many rows as the published versions.", _missing_rows),
)

CATALOG = {"delivered": StoredAsset(None, DELIVERED_CHECKS)}
"""Storage and checks of the asset."""


def delivered_asset(address: str, data_dir: str, tables: Sequence[str]) -> dg.AssetsDefinition:
    """Returns the asset that delivers to a target.

    Parameters
    ----------
    address
        See `target_of`; a path must be absolute.
    data_dir
        Path or URL of the data dir.
    tables
        Names of the assets to deliver.

    Raises
    ------
    DeliveryError
        If the address is invalid, or its path is relative.
    """
    target = target_of(address)
    place = target.folder.uri if isinstance(target, Files) else target.path
    if not (Path(place).is_absolute() or "://" in place):
        raise DeliveryError(
            f"{variable('deliver_to')}={address!r} has a relative path, which differs between processes: write the "
            "absolute path."
        )

    @dg.asset(
        name="delivered",
        group_name="delivery",
        owners=OWNERS,
        kinds={target.kind.replace("jsonl", "json")},
        code_version="1",
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="json_io_manager",
        ins={name: dg.AssetIn(dagster_type=Version) for name in tables},
    )
    def delivered(context: dg.AssetExecutionContext, **versions: Version) -> Artifact:
        """The target, with the versions and rows of the lists, similar products, pairs and segments that it has."""
        delivery = deliver_versions(
            Lake(data_dir, context.log.warning), target, list(versions.values()), may_replace_newer=False
        )
        if not delivery.changed:
            context.log.info(f"{delivery.target} already has these versions.")
        return Artifact(delivery.document())

    return delivered
