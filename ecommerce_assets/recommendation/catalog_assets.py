"""The external asset `product_catalog`: how a step is handed it, and the sensor that reports its changes to Dagster.

How the files are read is in catalog.py.
"""

from __future__ import annotations

import json
from typing import Any

import dagster as dg

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.recommendation.catalog import (
    FOLDER,
    PRODUCT_FILES,
    RULES_FILE,
    CatalogError,
    ProductCatalog,
    catalog_files,
    read_catalog,
)
from ecommerce_assets.settings import Settings
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.inputs import step_inputs

PRODUCT_CATALOG = "product_catalog"
READER = "product_catalog_reader"
SECONDS_BETWEEN_TICKS = 30

product_catalog = dg.AssetSpec(
    PRODUCT_CATALOG,
    group_name="recommendation",
    owners=OWNERS,
    kinds={"csv", "parquet"},
    description="What the shop sells and its rules for lists, where it has written them: "
    f"`{FOLDER}/{'` or `'.join(PRODUCT_FILES)}`, and `{FOLDER}/{RULES_FILE}`. It comes from outside and is optional.",
)


class ProductCatalogReader(dg.IOManager):
    """Hands the catalogue to a step, and records the files as its input."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise NotImplementedError("The catalogue comes from outside: write its files into the data dir.")

    def load_input(self, context: dg.InputContext) -> ProductCatalog:
        try:
            catalog = read_catalog(self._settings.data_dir, self._settings.id_type)
        except CatalogError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        for warning in catalog.warnings:
            context.log.warning(warning)
        step_inputs(context.step_context.run_id, context.step_context.step.key).add_external(catalog.inputs())
        return catalog


def product_catalog_changes(settings: Settings) -> dg.SensorDefinition:
    """The sensor for these settings: a changed catalogue refreshes the lists, and trains nothing."""
    folder = Folder(settings.data_dir) / FOLDER

    @dg.sensor(
        name="product_catalog_changes",
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED,
        description=f"Reports a changed catalogue or changed rules in {folder.uri}, once they are the same in two "
        "looks. The lists are then made again, without training.",
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        found = catalog_files(settings.data_dir)
        files, names = [[f.path, f.bytes, f.modified] for f in found], ", ".join(f.path for f in found) or "no files"
        cursor: dict[str, Any] = json.loads(context.cursor) if context.cursor else {"reported": [], "seen": []}
        if files == cursor["reported"]:
            return dg.SkipReason(f"Nothing new in {folder.uri}: {names}.")
        if files != cursor["seen"]:
            context.update_cursor(json.dumps({**cursor, "seen": files}))
            return dg.SkipReason(f"{folder.uri} has changed; it is reported once it is the same in the next look.")
        event = dg.AssetMaterialization(
            PRODUCT_CATALOG,
            description="" if files else "The catalogue was removed.",
            metadata={"files": names, "bytes": sum(file.bytes for file in found)},
        )
        return dg.SensorResult(asset_events=[event], cursor=json.dumps({"reported": files, "seen": files}))

    return tick
