"""Training in one go, from timestamped exports to models and lists: for spark-submit, notebooks and plain Python.

It runs the asset graph in this process, over all days of the exports. Only the source of the events and the data dir of
the outputs differ.
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
    # spark-submit puts this file's folder there, where `spark` or `events` would be modules of their own.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from ecommerce_assets.settings import SettingsError, load_settings

    try:
        load_settings()  # what cannot be used is one sentence here, and a traceback where definitions.py reads it
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
    """Dense numbers of the users and of the products."""

    user_index: DataFrame
    product_index: DataFrame


class EcommerceModelTrainer:
    """Trains all models from exports, in one call or step by step.

    Parameters
    ----------
    models_output_path
        The data dir of the outputs: `lake/<asset>/<version>/…`, and `training_metadata.json`.

    Examples
    --------
    >>> with EcommerceModelTrainer("./data/models") as trainer:  # doctest: +SKIP
    ...     results = trainer.train_all_models("./data/processed/parquet/cleaned_data_*.parquet")
    ...     results["recommendations"].show()
    """

    def __init__(self, models_output_path: str = MODELS_OUTPUT) -> None:
        self._settings = load_settings(data_dir=models_output_path, automation=False)
        self._resource = SparkResource(**spark_options(self._settings))
        self._saved: list[tempfile.TemporaryDirectory[str]] = []

    def __enter__(self) -> EcommerceModelTrainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def spark(self) -> SparkSession:
        """Returns the running session (of a notebook or spark-submit), or else a new one."""
        session: SparkSession = self._resource.spark_session
        return session

    def stop(self) -> None:
        """Stops the session if it was started here, and removes the models of the steps."""
        self._resource.stop()
        while self._saved:
            self._saved.pop().cleanup()

    def train_all_models(self, cleaned_data_path: str, processed_data_path: str = PROCESSED_DATA) -> dict[str, Any]:
        """Runs the whole graph over the union of the exports, and returns its results.

        Parameters
        ----------
        cleaned_data_path
            A Parquet file, a folder of Parquet files, or a glob of either. Rows that several exports have count once.
        processed_data_path
            Folder of the newest `user_behavior_*` and `product_data_*`. Without a readable one, features are computed.

        Returns
        -------
        dict
            segmentation_model (PipelineModel), als_model (ALSModel), metadata (dict), and as DataFrames
            segmented_users, user_index, product_index, user_features, product_features, interaction_data,
            recommendations.

        Raises
        ------
        RawDataError
            If there are no exports, or if they cannot be read.
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
        """user_features of cleaned events; columns as in features/user_features.py."""
        return build_user_features(df, reference_time(df))

    def prepare_product_features(self, df: DataFrame) -> DataFrame:
        """product_features of cleaned events; columns as in features/product_features.py."""
        return build_product_features(df)

    def prepare_recommendation_data(self, df: DataFrame) -> tuple[DataFrame, Indices]:
        """interaction_data of cleaned events, and the indices that its numbers stand for."""
        indices = Indices(build_index(df, "user_id", "user_idx"), build_index(df, "product_id", "product_idx"))
        return build_interactions(df, *indices), indices

    def train_user_segmentation_model(self, user_features: DataFrame) -> tuple[PipelineModel, DataFrame]:
        """Returns the fitted pipeline with the default parameters, and segmented_users.

        The pipeline can be used until `stop`. To keep it, call `model.save(path)`.
        """
        model = fit_segmentation(StoredTable(user_features), SegmentationParameters()).model
        users, _ = assign_segments(model, user_features)
        return as_pipeline(model, self._new_folder("segmentation_model")), users

    def train_als_model(self, interaction_data: DataFrame) -> ALSModel:
        """The ALS model with the default parameters, on the engine that fits the data and this Spark.

        It can be used until `stop`; save it with `model.save(path)`.
        """
        parameters, interactions = AlsParameters(), StoredTable(interaction_data)
        choice = choose_engine(interactions, parameters)
        log.info(choice.reason)
        fitted = fit_als(interactions, parameters, choice.engine, log_iterations(log.info, "als_model", parameters))
        return as_spark_model(fitted, self._new_folder("als_model"))

    def _new_folder(self, name: str) -> str:
        self._saved.append(tempfile.TemporaryDirectory())
        return f"{self._saved[-1].name}/{name}"

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
        # Not days that an earlier training left in the data dir.
        job = build_defs(settings, overrides, own_days_only=True).resolve_implicit_global_asset_job_def()
        tags = {RANGE_START_TAG: days[0], RANGE_END_TAG: days[-1]}
        with dg.DagsterInstance.ephemeral(settings=_QUIET) as instance, short_log_lines():
            job.execute_in_process(tags=tags, instance=instance, raise_on_error=True)

    def _results(self) -> dict[str, Any]:
        data_dir = self._settings.data_dir
        results = {name: read(name, data_dir=data_dir, spark=self.spark) for name in RESULTS}
        return {**results, "metadata": read("training_metadata", data_dir=data_dir, spark=self.spark)}

    def model_paths(self) -> dict[str, str]:
        """Where the newest models lie: folders that plain PySpark loads."""
        lake = Lake(self._settings.data_dir)
        return {
            name: f"{lake.folder(lake.latest(name)).uri}/{MODEL_FOLDER}" for name in ("segmentation_model", "als_model")
        }

    def _copy_metadata(self) -> None:
        """The newest training_metadata.json, at the top where people look for it."""
        lake, data = Lake(self._settings.data_dir), Folder(self._settings.data_dir)
        newest = lake.folder(lake.latest("training_metadata"))
        data.write_whole(METADATA_FILE, newest.read_bytes(METADATA_FILE))


def main(argv: Sequence[str] | None = None) -> int:
    """0 where all went well, 1 with the reason on stderr where it did not; Spark is stopped in both cases."""
    parser = argparse.ArgumentParser(prog="training.py", description="Train segments and recommendations from exports.")
    parser.add_argument(
        "--cleaned-data", default=CLEANED_DATA, metavar="PATH", help="Parquet, a glob of it: %(default)s"
    )
    parser.add_argument("--processed-data", default=PROCESSED_DATA, metavar="DIR", help="%(default)s")
    parser.add_argument("--models-output", default=MODELS_OUTPUT, metavar="DIR", help="%(default)s")
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
