"""The resources of this package: the limits of an evaluation, and the reader of the product catalogue."""

import dagster as dg
from pydantic import Field

from ecommerce_assets.events.parsing import IdType
from ecommerce_assets.recommendation.catalog import FOLDER, CatalogError, ProductCatalog, read_catalog
from ecommerce_assets.settings import Settings
from ecommerce_assets.storage.inputs import step_inputs
from ecommerce_assets.storage.step_context import running_step


class EvaluationLimits(dg.ConfigurableResource):  # type: ignore[type-arg]
    """What als_evaluation, als_tuning and backtest accept; the checks read it from the parameters of a version."""

    max_quality_loss: float = Field(
        description="als_evaluation is blocked if its NDCG clearly falls by a larger share than this."
    )
    min_holdout_users: int = Field(description="With fewer users in the holdout, als_evaluation blocks nothing.")

    @classmethod
    def of(cls, settings: Settings) -> "EvaluationLimits":
        """Returns the limits that the shop sets."""
        return cls(max_quality_loss=settings.max_quality_loss, min_holdout_users=settings.min_holdout_users)


class ProductCatalogReader(dg.ConfigurableIOManager):
    """Reads the product catalogue and the rules for lists, and records the files as inputs of the step."""

    data_dir: str = Field(description="Folder or bucket that holds the catalogue.")
    id_type: IdType = Field(default="bigint", description="Type of the product ids.")

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise NotImplementedError(f"No step writes the catalogue: write its files into {FOLDER}/ in the data dir.")

    def load_input(self, context: dg.InputContext) -> ProductCatalog:
        try:
            catalog = read_catalog(self.data_dir, self.id_type)
        except CatalogError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        for warning in catalog.warnings:
            context.log.warning(warning)
        step_inputs(*running_step(context)).add_external(catalog.inputs())
        return catalog
