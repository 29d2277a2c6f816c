"""Dagster resources: `EvaluationLimits`, and `ProductCatalogReader`, which reads the product catalogue."""

import dagster as dg
from pydantic import Field

from ecommerce_assets.events.parsing import IdType
from ecommerce_assets.recommendation.catalog import FOLDER, CatalogError, ProductCatalog, read_catalog
from ecommerce_assets.settings import Settings
from ecommerce_assets.storage.inputs import step_inputs
from ecommerce_assets.storage.step_context import running_step


class EvaluationLimits(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Limits of the checks of als_evaluation, als_tuning and backtest, which read them from a version's parameters."""

    max_quality_loss: float = Field(
        description="als_evaluation is blocked if its NDCG clearly falls by more than this share of the previous one."
    )
    min_holdout_users: int = Field(
        description="Minimum number of holdout users for a comparison; with fewer, als_evaluation is not blocked."
    )

    @classmethod
    def of(cls, settings: Settings) -> "EvaluationLimits":
        """Returns the limits in the settings."""
        return cls(max_quality_loss=settings.max_quality_loss, min_holdout_users=settings.min_holdout_users)


class ProductCatalogReader(dg.ConfigurableIOManager):
    """Reads the product catalogue and the rules for lists, and records the files as inputs of the step."""

    data_dir: str = Field(description="Data dir, a folder or bucket, with the catalogue.")
    id_type: IdType = Field(default="bigint", description="Type of the product ids: bigint or string.")

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise NotImplementedError(f"No step can write the catalogue. Put its files into {FOLDER}/ in the data dir.")

    def load_input(self, context: dg.InputContext) -> ProductCatalog:
        try:
            catalog = read_catalog(self.data_dir, self.id_type)
        except CatalogError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        for warning in catalog.warnings:
            context.log.warning(warning)
        step_inputs(*running_step(context)).add_external(catalog.inputs())
        return catalog
