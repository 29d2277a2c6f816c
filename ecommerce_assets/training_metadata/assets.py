"""The asset training_metadata. document.py defines its content, card.py its model card."""

from datetime import UTC, datetime

import dagster as dg

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.recommendation.assets import AS_EVALUATED, EVALUATED
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset
from ecommerce_assets.storage.version import Version
from ecommerce_assets.training_metadata.card import model_card, summarize
from ecommerce_assets.training_metadata.checks import TRAINING_METADATA_CHECKS
from ecommerce_assets.training_metadata.closing import closing_summary
from ecommerce_assets.training_metadata.document import TrainingMetadata, describe_training


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"json"},
    code_version="3",
    backfill_policy=dg.BackfillPolicy.single_run(),
    io_manager_key="json_io_manager",
    # The same versions as recommendations reads, so that a card describes one model.
    ins=dict.fromkeys((*EVALUATED, "segmentation_model"), AS_EVALUATED),
)
def training_metadata(
    user_features: Version,
    product_features: Version,
    segmentation_model: Version,
    segmented_users: Version,
    customer_groups: Version,
    customer_value: Version,
    user_index: Version,
    product_index: Version,
    interaction_data: Version,
    als_model: Version,
    item_neighbours: Version,
    als_evaluation: Version,
    blend_model: Version,
    product_eligibility: Version,
    recommendations: Version,
    similar_products: Version,
    product_pairs: Version,
) -> Artifact:
    """Sizes, inputs, parameters, durations, failed checks and evaluation of the newest tables and models."""
    versions = {version.asset: version for version in list(locals().values())}
    document = describe_training(versions, datetime.now(UTC))
    return Artifact(document.model_dump(mode="json"), results={"in short": summarize(document)})


CATALOG = {
    "training_metadata": StoredAsset(
        None, TRAINING_METADATA_CHECKS, document=TrainingMetadata, card=model_card, closing=closing_summary
    )
}
"""How the asset is stored, checked and shown."""
