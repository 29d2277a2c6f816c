"""The asset training_metadata. What is in it stands in document.py, how it looks in card.py."""

from datetime import UTC, datetime

import dagster as dg

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.recommendation.assets import AS_JUDGED, JUDGED_WITH
from ecommerce_assets.storage.artifact import Artifact
from ecommerce_assets.storage.manifest import Manifest
from ecommerce_assets.training_metadata.card import in_short
from ecommerce_assets.training_metadata.document import describe_training


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"json"},
    code_version="2",
    backfill_policy=dg.BackfillPolicy.single_run(),
    io_manager_key="json_io_manager",
    ins=dict.fromkeys(JUDGED_WITH, AS_JUDGED),  # as the lists read them: a card is about one model
)
def training_metadata(
    user_features: Manifest,
    product_features: Manifest,
    segmentation_model: Manifest,
    segmented_users: Manifest,
    user_index: Manifest,
    product_index: Manifest,
    interaction_data: Manifest,
    als_model: Manifest,
    als_evaluation: Manifest,
    recommendations: Manifest,
    similar_products: Manifest,
) -> Artifact:
    """What the tables and models are, what they were made from, with which parameters, and how good they are."""
    manifests = {manifest.asset: manifest for manifest in list(locals().values())}
    document = describe_training(manifests, datetime.now(UTC))
    return Artifact(document.model_dump(mode="json"), facts={"in short": in_short(document)})
