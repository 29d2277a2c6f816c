"""Trains everything from timestamped exports, for spark-submit, notebooks and plain Python: `EcommerceModelTrainer`.

It runs the asset graph in this process, over all days of the exports. Only the source of the events and the data dir
differ.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if __name__ == "__main__":
    # spark-submit puts the folder of this file there, from which `import spark` would import our package.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from ecommerce_assets.settings import SettingsError, load_settings

    try:
        load_settings()  # an invalid setting is one sentence here; the import of definitions.py gives a traceback
    except SettingsError as error:
        sys.exit(f"Training failed: {error}")

import dagster as dg
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.console import short_log_lines
from ecommerce_assets.definitions import build_defs
from ecommerce_assets.events.exports import find_exports
from ecommerce_assets.events.readers import ExportsReader
from ecommerce_assets.features.assets import FeatureExports
from ecommerce_assets.features.product_features import build_product_features
from ecommerce_assets.features.user_features import build_user_features, reference_time
from ecommerce_assets.recommendation.als import choose_engine, fit_als, log_iterations
from ecommerce_assets.recommendation.als_model import as_spark_model
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.indices import build_index
from ecommerce_assets.recommendation.interactions import build_interactions
from ecommerce_assets.runs import RANGE_END_TAG, RANGE_START_TAG
from ecommerce_assets.segmentation.model import as_pipeline
from ecommerce_assets.segmentation.pipeline import SegmentationParameters, assign_segments, fit_segmentation
from ecommerce_assets.settings import load_settings
from ecommerce_assets.spark.resource import SparkResource, spark_options
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.reading import MODEL_FOLDER, read
from ecommerce_assets.storage.stored_table import StoredTable

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.ml.recommendation import ALSModel

CLEANED_DATA = "./data/processed/parquet/cleaned_data_*.parquet"
PROCESSED_DATA = "./data/processed/parquet/"
MODELS_OUTPUT = "./data/models"
METADATA_FILE = "training_metadata.json"

RESULTS = (
    "segmentation_model",
    "segmented_users",
    "user_index",
    "product_index",
    "user_features",
    "product_features",
    "interaction_data",
    "als_model",
    "recommendations",
)

_QUIET = {"python_logs": {"python_log_level": "INFO"}}  # the default is DEBUG

log = logging.getLogger("ecommerce_assets.training")


class Indices(NamedTuple):
    """The tables user_index and product_index."""

    user_index: DataFrame
    product_index: DataFrame


class EcommerceModelTrainer:
    """Trains all models from exports, in one call or step by step.

    Parameters
    ----------
    models_output_path
        Path or URL of the data dir of the outputs: `lake/<asset>/<version>/…`, and `training_metadata.json`.

    Examples
    --------
    >>> with EcommerceModelTrainer("./data/models") as trainer:  # doctest: +SKIP
    ...     results = trainer.train_all_models("./data/processed/parquet/cleaned_data_*.parquet")
    ...     results["recommendations"].show()
    """

    def __init__(self, models_output_path: str = MODELS_OUTPUT) -> None:
        self._settings = load_settings(data_dir=models_output_path, automation=False)
        self._resource = SparkResource(**spark_options(self._settings))
        self._model_folders: list[tempfile.TemporaryDirectory[str]] = []

    def __enter__(self) -> EcommerceModelTrainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def spark(self) -> SparkSession:
        """The running session of a notebook or of spark-submit; otherwise a new one."""
        session: SparkSession = self._resource.spark_session
        return session

    def stop(self) -> None:
        """Stops the session if the trainer started it, and removes the models that the steps returned."""
        self._resource.stop()
        while self._model_folders:
            self._model_folders.pop().cleanup()

    def train_all_models(self, cleaned_data_path: str, processed_data_path: str = PROCESSED_DATA) -> dict[str, Any]:
        """Returns the results of the whole graph, run over the union of the exports.

        Parameters
        ----------
        cleaned_data_path
            A Parquet file, a folder of Parquet files, or a glob of either. Rows that several exports share count once.
        processed_data_path
            Folder with `user_behavior_*` and `product_data_*`; the newest replace the features. If none is readable,
            features are computed.

        Returns
        -------
        dict
            segmentation_model (PipelineModel), als_model (ALSModel), metadata (dict), and as DataFrames
            segmented_users, user_index, product_index, user_features, product_features, interaction_data,
            recommendations.

        Raises
        ------
        RawDataError
            If there are no exports, or they cannot be read.
        BlockedError
            If a blocking check failed; the message has the check, the asset and the reason.
        Exception
            Any other error of a step. All errors are logged first.
        """
        started = time.monotonic()
        log.info("Training from %s into %s.", cleaned_data_path, self._settings.data_dir)
        try:
            exports = find_exports(cleaned_data_path, self._resource.scratch("exports"), self._settings.id_type)
            rows = sum(exports.rows_by_day.values())
            log.info(
                "%s rows in %s files, %s to %s.",
                f"{rows:,}",
                f"{len(exports.files):,}",
                exports.days[0],
                exports.days[-1],
            )
            self._run(ExportsReader(exports), exports.days, processed_data_path)
            self._copy_metadata()
            results = self._results()
        except Exception:
            log.exception("Training failed after %.0f s.", time.monotonic() - started)
            raise
        log.info("Training succeeded after %.0f s.", time.monotonic() - started)
        return results

    def prepare_user_features(self, df: DataFrame) -> DataFrame:
        """Returns user_features of cleaned events; features/user_features.py describes the columns."""
        return build_user_features(df, reference_time(df))

    def prepare_product_features(self, df: DataFrame) -> DataFrame:
        """Returns product_features of cleaned events; features/product_features.py describes the columns."""
        return build_product_features(df)

    def prepare_recommendation_data(self, df: DataFrame) -> tuple[DataFrame, Indices]:
        """Returns interaction_data of cleaned events, and the indices of its users and products."""
        indices = Indices(build_index(df, "user_id", "user_idx"), build_index(df, "product_id", "product_idx"))
        return build_interactions(df, *indices), indices

    def train_user_segmentation_model(self, user_features: DataFrame) -> tuple[PipelineModel, DataFrame]:
        """Returns the pipeline fitted with the default parameters, and segmented_users.

        The pipeline can be used until `stop`; to keep it, call `model.save(path)`.
        """
        model = fit_segmentation(StoredTable(user_features), SegmentationParameters()).model
        users, _ = assign_segments(model, user_features)
        return as_pipeline(model, self._new_folder("segmentation_model")), users

    def train_als_model(self, interaction_data: DataFrame) -> ALSModel:
        """Returns the ALS model fitted with the default parameters, by the engine that suits the data and this Spark.

        The model can be used until `stop`; to keep it, call `model.save(path)`.
        """
        parameters, interactions = AlsParameters(), StoredTable(interaction_data)
        choice = choose_engine(interactions, parameters)
        log.info(choice.reason)
        fitted = fit_als(interactions, parameters, choice.engine, log_iterations(log.info, "als_model", parameters))
        return as_spark_model(fitted, self._new_folder("als_model"))

    def _new_folder(self, name: str) -> str:
        self._model_folders.append(tempfile.TemporaryDirectory())
        return f"{self._model_folders[-1].name}/{name}"

    def _run(self, reader: ExportsReader, days: Sequence[str], processed_data_path: str) -> None:
        settings = self._settings.model_copy(
            update={"first_day": date.fromisoformat(days[0]), "last_day": date.fromisoformat(days[-1])}
        )
        overrides = {
            "raw_events_reader": reader,
            "precomputed_features": FeatureExports(
                folder=processed_data_path, enabled=settings.precomputed_features, id_type=settings.id_type
            ),
        }
        # Without days from an earlier training into the same data dir.
        job = build_defs(settings, overrides, own_days_only=True).resolve_implicit_global_asset_job_def()
        tags = {RANGE_START_TAG: days[0], RANGE_END_TAG: days[-1]}
        with dg.DagsterInstance.ephemeral(settings=_QUIET) as instance, short_log_lines():
            job.execute_in_process(tags=tags, instance=instance, raise_on_error=True)

    def _results(self) -> dict[str, Any]:
        data_dir = self._settings.data_dir
        results = {name: read(name, data_dir=data_dir, spark=self.spark) for name in RESULTS}
        return {**results, "metadata": read("training_metadata", data_dir=data_dir, spark=self.spark)}

    def model_paths(self) -> dict[str, str]:
        """Returns the folders of the newest models by asset; plain PySpark loads them."""
        lake = Lake(self._settings.data_dir)
        return {
            name: f"{lake.folder(lake.latest(name)).uri}/{MODEL_FOLDER}" for name in ("segmentation_model", "als_model")
        }

    def _copy_metadata(self) -> None:
        """Copies the newest training_metadata.json to the top of the data dir."""
        lake, data = Lake(self._settings.data_dir), Folder(self._settings.data_dir)
        newest = lake.folder(lake.latest("training_metadata"))
        data.write_whole(METADATA_FILE, newest.read_bytes(METADATA_FILE))


def main(argv: Sequence[str] | None = None) -> int:
    """Trains from the command line; returns 0, or 1 after printing the reason to stderr. Always stops Spark."""
    parser = argparse.ArgumentParser(prog="training.py", description="Train segments and recommendations from exports.")
    parser.add_argument(
        "--cleaned-data",
        default=CLEANED_DATA,
        metavar="PATH",
        help="exports, a Parquet file, folder or glob (%(default)s)",
    )
    parser.add_argument(
        "--processed-data", default=PROCESSED_DATA, metavar="DIR", help="folder of feature tables (%(default)s)"
    )
    parser.add_argument("--models-output", default=MODELS_OUTPUT, metavar="DIR", help="data dir to write (%(default)s)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("ecommerce_assets").setLevel(logging.INFO)
    try:
        with EcommerceModelTrainer(arguments.models_output) as trainer:
            trainer.train_all_models(arguments.cleaned_data, arguments.processed_data)
            for name, path in trainer.model_paths().items():
                print(f"{name}: {path}")
    except Exception as error:
        print(f"Training failed: {getattr(error, 'description', None) or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
