"""Logs evaluations in MLflow if `MLFLOW_TRACKING_URI` is set and mlflow is installed. `log_version` is the entry point.

A version of als_evaluation becomes a run with its parameters and metrics, and a version of the registered model
`ecommerce_assets`. The version behind the published lists gets the alias `champion`, and its run the model card.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ecommerce_assets.recommendation.parameters import Parameters
from ecommerce_assets.recommendation.systems import PUBLISHED
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Version

NAME = "ecommerce_assets"
"""Name of the experiment and of the registered model."""

CHAMPION = "champion"

HTTP_LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""MLflow waits for minutes by default, which would delay a run if the server does not answer."""


def log_version(version: Version, data_dir: str, warn: Callable[[str], object]) -> None:
    """Logs a published version of als_evaluation, or marks the champion for one of training_metadata. Never raises.

    Parameters
    ----------
    version
        Versions of other assets, and blocked ones, are ignored.
    data_dir
        Folder or bucket that holds `lake/`.
    warn
        Called with one sentence if MLflow fails.
    """
    log = {"als_evaluation": _log_evaluation, "training_metadata": _log_champion}.get(version.asset)
    if log is None or version.failed_blocking or not os.environ.get("MLFLOW_TRACKING_URI"):
        return
    for name, value in HTTP_LIMITS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError:
        return
    try:
        log(MlflowClient(), version, data_dir)
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")
        warn(f"{version.asset} {version.version} was not logged in MLflow ({type(error).__name__}: {first_line}).")


def _log_evaluation(client: Any, version: Version, data_dir: str) -> None:
    experiment = client.get_experiment_by_name(NAME)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(NAME)
    tags = {"als_evaluation": version.version, "data_dir": data_dir, "dagster_run_id": version.run_id}
    run_id = client.create_run(experiment_id, run_name=f"als_evaluation {version.version}", tags=tags).info.run_id
    for asset, values in Parameters.of_evaluation(version.parameters).as_dict().items():
        for name, value in values.items():
            client.log_param(run_id, f"{asset}.{name}", value)
    for metric, systems in version.stats.results.get("metrics", {}).items():
        if systems.get(PUBLISHED):
            client.log_metric(run_id, metric, systems[PUBLISHED][0])
    client.set_terminated(run_id)
    if not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(NAME)
    client.create_model_version(NAME, f"runs:/{run_id}/als_model", run_id, tags=tags)


def _log_champion(client: Any, version: Version, data_dir: str) -> None:
    evaluation = version.input_version("als_evaluation")
    models = client.search_model_versions(f"name = '{NAME}'")
    matching = [m for m in models if (m.tags.get("als_evaluation"), m.tags.get("data_dir")) == (evaluation, data_dir)]
    if not matching:
        return  # the evaluation was made without MLflow
    newest = max(matching, key=lambda model: int(model.version))
    client.set_registered_model_alias(NAME, CHAMPION, newest.version)
    card = Lake(data_dir).folder(version).read_bytes(f"{version.asset}.md")
    client.log_text(newest.run_id, card.decode(), "model_card.md")
