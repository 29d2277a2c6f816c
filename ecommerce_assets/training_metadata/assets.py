"""The asset training_metadata; its content is defined in document.py, its card in card.py."""

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
    ins=dict.fromkeys(
        (*EVALUATED, "segmentation_model"), AS_EVALUATED
    ),  # as recommendations reads them: a card is about one model
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
    """What the tables and models are, what they were made from, with which parameters, and how good they are."""
    versions = {version.asset: version for version in list(locals().values())}
    document = describe_training(versions, datetime.now(UTC))
    return Artifact(document.model_dump(mode="json"), results={"in short": summarize(document)})


CATALOG = {
    "training_metadata": StoredAsset(
        None, TRAINING_METADATA_CHECKS, document=TrainingMetadata, card=model_card, closing=closing_summary
    )
}
"""How the asset is stored, checked and shown."""
