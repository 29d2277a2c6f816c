"""`closing_summary`: the last log lines of a run, with the results, their folder, the evaluation and next commands."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from ecommerce_assets.env_file import RUN
from ecommerce_assets.recommendation.evaluation_checks import Comparison
from ecommerce_assets.recommendation.notes import main_systems
from ecommerce_assets.recommendation.systems import PUBLISHED
from ecommerce_assets.settings import DATA_DIR, DEFAULT_DATA_DIR
from ecommerce_assets.storage.markdown import percent
from ecommerce_assets.training_metadata.card import comparison
from ecommerce_assets.training_metadata.document import TrainingMetadata


def closing_summary(document: Mapping[str, Any], lake: str) -> str:
    """Returns the summary.

    Parameters
    ----------
    document
        The document of training_metadata as JSON values.
    lake
        Folder of the assets: `<data dir>/lake`.
    """
    training = TrainingMetadata.model_validate(document)
    lists, data = training.recommendations, training.data
    days = f" of {data.days:,} day{'s' * (data.days > 1)} to {data.last_day}" if data.days else ""
    version = training.versions["recommendations"].version
    warnings = ", ".join(f"{c.asset} {c.check}" for c in training.failed_checks)
    lines = [
        "Done.",
        f"  Made       {lists.entries:,} recommendations for {lists.users:,} users in {training.segments_count} "
        f"segments, and {training.similar_products.entries:,} similar products, from "
        f"{training.total_interactions:,} events{days}",
        f"  Stored in  {lake}, one folder for each asset; the lists are version {version} of recommendations",
        *_evaluation(training),
        *([f"  Warnings   {warnings}"] if warnings else []),
        *_next(lake.removesuffix("/lake")),
    ]
    return "\n".join(lines)


def _evaluation(training: TrainingMetadata) -> list[str]:
    evaluation, parameters = training.evaluation, training.parameters.get("als_evaluation", {})
    compared = Comparison.of(evaluation.model_dump(), parameters)
    if compared is None or not compared.enough_users:
        return [f"  Evaluated  {comparison(training)}"]
    hits = {system: percent(interval[0]) for system, interval in evaluation.metrics["hit_rate"].items()}
    titles = main_systems(compared.best_baseline)
    others = "; ".join(f"{title}: {hits[system]}" for system, title in titles.items() if system != PUBLISHED)
    return [
        f"  Evaluated  Hit rate at {compared.k}: {hits[PUBLISHED]} of {compared.users:,} holdout users ({others})",
        f"             {comparison(training)}",
    ]


def _next(data_dir: str) -> list[str]:
    """Returns commands that work in any shell, because they set the data dir and the history of runs."""
    shop = "" if data_dir == DEFAULT_DATA_DIR else f"{DATA_DIR}={shlex.quote(data_dir)} "
    home = f"DAGSTER_HOME={shlex.quote(os.environ['DAGSTER_HOME'])} " if os.environ.get("DAGSTER_HOME") else ""
    return [
        f"  Next       {home}{shop}{RUN}dagster dev -m ecommerce_assets.definitions",
        "             shows the assets in the browser;",
        f"             {shop}{RUN}ecommerce-assets lookup user",
        "             shows the recommendations of a user",
    ]
