"""The external asset `product_catalog`, and the sensor that reports its changes.

catalog.py reads the files, and `ProductCatalogReader` in resources.py passes them to steps.
"""

from __future__ import annotations

import json
from typing import Any

import dagster as dg

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.recommendation.catalog import FOLDER, PRODUCT_FILES, RULES_FILE, catalog_files
from ecommerce_assets.settings import Settings
from ecommerce_assets.storage.filesystem import Folder

PRODUCT_CATALOG = "product_catalog"
READER = "product_catalog_reader"
SECONDS_BETWEEN_TICKS = 30

product_catalog = dg.AssetSpec(
    PRODUCT_CATALOG,
    group_name="recommendation",
    owners=OWNERS,
    kinds={"csv", "parquet"},
    description="The products that the shop sells, and its rules for lists. Both files are optional: "
    f"`{FOLDER}/{PRODUCT_FILES[0]}` (or `{PRODUCT_FILES[1]}`), and `{FOLDER}/{RULES_FILE}`.",
)


def product_catalog_changes(settings: Settings) -> dg.SensorDefinition:
    """Returns the sensor that reports changes of the catalogue; the lists are then computed again, without training."""
    folder = Folder(settings.data_dir) / FOLDER

    @dg.sensor(
        name="product_catalog_changes",
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED,
        description=f"Reports changes of the catalogue and the rules in {folder.uri} after two ticks with the same "
        "files. The lists are then computed again, without training.",
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        infos = catalog_files(settings.data_dir)
        files, names = [[f.path, f.bytes, f.modified] for f in infos], ", ".join(f.path for f in infos) or "no files"
        cursor: dict[str, Any] = json.loads(context.cursor) if context.cursor else {"reported": [], "seen": []}
        if files == cursor["reported"]:
            return dg.SkipReason(f"No change in {folder.uri}: {names}.")
        if files != cursor["seen"]:
            context.update_cursor(json.dumps({**cursor, "seen": files}))
            return dg.SkipReason(f"{folder.uri} has changed; the next tick reports it if the files stay the same.")
        event = dg.AssetMaterialization(
            PRODUCT_CATALOG,
            description="" if files else "The catalogue was removed.",
            metadata={"files": names, "bytes": sum(file.bytes for file in infos)},
        )
        return dg.SensorResult(asset_events=[event], cursor=json.dumps({"reported": files, "seen": files}))

    return tick
