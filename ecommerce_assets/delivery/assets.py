"""The asset delivered: brings the tables that a run published to the target `ECOMMERCE_DELIVER_TO`."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from ecommerce_assets.delivery.checks import DELIVERED_CHECKS
from ecommerce_assets.delivery.deliver import deliver_versions, target_of
from ecommerce_assets.delivery.files import Files
from ecommerce_assets.delivery.rows import DeliveryError
from ecommerce_assets.owners import OWNERS
from ecommerce_assets.settings import variable
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset
from ecommerce_assets.storage.version import Version

CATALOG = {"delivered": StoredAsset(None, DELIVERED_CHECKS)}
"""How the asset is stored and checked."""


def delivered_asset(address: str, data_dir: str, tables: Sequence[str]) -> dg.AssetsDefinition:
    """Returns the asset that delivers to this target.

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
        If the address is not one of a target, or its path is relative.
    """
    target = target_of(address)
    place = target.path if not isinstance(target, Files) else target.folder.uri
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
        """The versions of lists, similar products, pairs and segments that the shop reads now, and from where."""
        delivery = deliver_versions(Lake(data_dir, context.log.warning), target, list(versions.values()))
        if not delivery.changed:
            context.log.info(f"{delivery.target} holds these versions already.")
        return Artifact(delivery.document())

    return delivered
