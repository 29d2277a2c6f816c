"""A fitted ALS model: its factors as NumPy arrays, saved in the layout of MLlib's `ALSModel`.

`LocalModel` is what the local engine fits, `MllibModel` what Spark fits; both save a folder that `ALSModel.load` of
plain PySpark reads, and `SavedModel` reads that folder with Arrow.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType, IntegerType, StructField, StructType

from ecommerce_assets.recommendation.local_als import Factors
from ecommerce_assets.spark.connect import frame_of
from ecommerce_assets.storage.spark_ml import rows_of, write_metadata, write_rows

if TYPE_CHECKING:  # Spark ML takes a second to import; executors, which import this module, need not have fsspec
    from pyspark.ml.recommendation import ALSModel

    from ecommerce_assets.storage.filesystem import Folder

USER_FACTORS, ITEM_FACTORS = "userFactors", "itemFactors"
"""Folders of a saved model."""

ALS_MODEL_PARTS = {
    f"{USER_FACTORS}.id": "int",
    f"{USER_FACTORS}.features": "array<float>",
    f"{ITEM_FACTORS}.id": "int",
    f"{ITEM_FACTORS}.features": "array<float>",
}
"""The parts of the model that other tables are computed from: folders of the saved model, and their columns."""

COLUMNS: dict[str, Any] = {"userCol": "user_idx", "itemCol": "product_idx", "coldStartStrategy": "drop"}
"""Parameters of MLlib's model that are not its defaults."""

DEFAULTS = {
    "blockSize": 4096,
    "coldStartStrategy": "nan",
    "itemCol": "item",
    "predictionCol": "prediction",
    "userCol": "user",
}
"""Defaults of MLlib's `ALSModel`, which its saved form lists."""

SPARK_SCHEMA = StructType(
    [StructField("id", IntegerType(), False), StructField("features", ArrayType(FloatType(), False), True)]
)
"""Spark schema of the factors, as MLlib writes them."""

_FEATURES = pa.list_(pa.field("element", pa.float32(), nullable=False))
ARROW_SCHEMA = pa.schema([pa.field("id", pa.int32(), nullable=False), pa.field("features", _FEATURES)])
"""Arrow schema of the factors."""

ROWS_PER_BATCH = 10_000
"""2 MB at rank 50."""


class AlsModel(ABC):
    """Factors of users and products, by `user_idx` and `product_idx`."""

    @property
    @abstractmethod
    def users(self) -> Factors:
        """Returns the factors of the users, in this process."""

    @property
    @abstractmethod
    def products(self) -> Factors:
        """Returns the factors of the products, in this process."""

    @abstractmethod
    def user_frame(self, spark: SparkSession) -> DataFrame:
        """`id`, `features` of the users, for Spark."""


class FittedModel(AlsModel):
    """A model that is not saved yet."""

    @abstractmethod
    def save(self, path: str) -> None:
        """Writes the folder `path`, a URI, in the layout of MLlib's `ALSModel`."""

    @abstractmethod
    def describe(self) -> dict[str, int]:
        """Returns numbers of `users` and `products` with factors, of `vectors_not_finite` and of `vectors_negative`.

        A vector is negative if one of its numbers is.
        """


@dataclass(frozen=True)
class LocalModel(FittedModel):
    """A model of the local engine; it is saved and described without Spark."""

    of_users: Factors
    of_products: Factors

    @property
    def users(self) -> Factors:
        return self.of_users

    @property
    def products(self) -> Factors:
        return self.of_products

    def user_frame(self, spark: SparkSession) -> DataFrame:
        return factor_frame(spark, self.of_users)

    def save(self, path: str) -> None:
        from ecommerce_assets.storage.filesystem import Folder

        folder = Folder(path)
        for name, factors in ((USER_FACTORS, self.of_users), (ITEM_FACTORS, self.of_products)):
            write_rows(folder / name, factor_table(factors), row_group_size=10 * ROWS_PER_BATCH)
        uid, rank = f"ALS_{secrets.token_hex(6)}", self.of_products.vectors.shape[1]
        write_metadata(folder, "recommendation.ALSModel", uid, COLUMNS, DEFAULTS, rank=rank)

    def describe(self) -> dict[str, int]:
        both = (self.of_users.vectors, self.of_products.vectors)
        return {
            "users": len(both[0]),
            "products": len(both[1]),
            "vectors_not_finite": sum(int((~np.isfinite(vectors)).any(axis=1).sum()) for vectors in both),
            "vectors_negative": sum(int((vectors < 0).any(axis=1).sum()) for vectors in both),
        }


@dataclass(frozen=True)
class MllibModel(FittedModel):
    """A model of Spark's ALS."""

    model: ALSModel

    @cached_property
    def users(self) -> Factors:
        return as_factors(self.model.userFactors.toArrow())

    @cached_property
    def products(self) -> Factors:
        return as_factors(self.model.itemFactors.toArrow())

    def user_frame(self, spark: SparkSession) -> DataFrame:
        return self.model.userFactors

    def save(self, path: str) -> None:
        self.model.write().save(path)

    def describe(self) -> dict[str, int]:
        both = [
            frame.select(
                F.lit(of_user).alias("of_user"),
                F.array_min("features").alias("low"),
                F.array_max("features").alias("high"),
            )
            for frame, of_user in ((self.model.userFactors, True), (self.model.itemFactors, False))
        ]
        infinite = float("inf")
        [row] = (
            both[0]
            .unionAll(both[1])
            .agg(
                F.count_if("of_user").alias("users"),
                F.count_if(~F.col("of_user")).alias("products"),
                # NaN is the largest of all numbers to Spark.
                F.count_if((F.col("low") == -infinite) | (F.col("high") >= infinite)).alias("vectors_not_finite"),
                F.count_if(F.col("low") < 0).alias("vectors_negative"),
            )
            .collect()
        )
        return dict(row.asDict())


@dataclass(frozen=True)
class SavedModel(AlsModel):
    """A saved model of either engine, read from its folder.

    Raises
    ------
    OSError
        If a file is missing or its checksum is wrong.
    """

    folder: Folder

    @cached_property
    def users(self) -> Factors:
        return self._read(USER_FACTORS)

    @cached_property
    def products(self) -> Factors:
        return self._read(ITEM_FACTORS)

    def user_parts(self) -> Iterator[Factors]:
        """Yields the factors of the users in parts of at most `ROWS_PER_BATCH`, in bounded memory."""
        scanner = rows_of(self.folder / USER_FACTORS, ARROW_SCHEMA).scanner(
            batch_size=ROWS_PER_BATCH, batch_readahead=1, fragment_readahead=1
        )
        return (as_factors(pa.Table.from_batches([batch])) for batch in scanner.to_batches() if batch.num_rows)

    def user_frame(self, spark: SparkSession) -> DataFrame:
        from ecommerce_assets.spark.connect import path_to_read

        return spark.read.schema(SPARK_SCHEMA).parquet(path_to_read(spark, (self.folder / USER_FACTORS).uri))

    def _read(self, name: str) -> Factors:
        return as_factors(rows_of(self.folder / name, ARROW_SCHEMA).to_table())


def as_spark_model(model: FittedModel, folder: str) -> ALSModel:
    """Returns the model as MLlib's. A model of the local engine is saved in `folder`, from which Spark reads it."""
    from pyspark.ml.recommendation import ALSModel

    from ecommerce_assets.spark.connect import spark_path

    if isinstance(model, MllibModel):
        return model.model
    model.save(folder)
    return ALSModel.load(spark_path(folder))


def factor_frame(spark: SparkSession, factors: Factors) -> DataFrame:
    """`id`, `features`, as in MLlib's models; handed over as Arrow."""
    return frame_of(spark, factor_table(factors), SPARK_SCHEMA)


def factor_table(factors: Factors) -> pa.Table:
    """`id`, `features`, without a Python object per number."""
    rank = factors.vectors.shape[1]
    batches = []
    for start in range(0, len(factors.numbers), ROWS_PER_BATCH):
        vectors = factors.vectors[start : start + ROWS_PER_BATCH]
        begins = pa.array(np.arange(0, vectors.size + 1, rank, dtype=np.int32))
        lists = pa.ListArray.from_arrays(begins, pa.array(vectors.ravel()), type=_FEATURES)
        numbers = pa.array(factors.numbers[start : start + ROWS_PER_BATCH])
        batches.append(pa.RecordBatch.from_arrays([numbers, lists], schema=ARROW_SCHEMA))
    return pa.Table.from_batches(batches, ARROW_SCHEMA)


def as_factors(table: Any) -> Factors:
    """Returns the factors in a table of `id` and `features`, in any order."""
    numbers = table.column("id").to_numpy().astype(np.int32)
    flat = table.column("features").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = np.asarray(flat, np.float32).reshape(len(numbers), len(flat) // max(len(numbers), 1))
    order = np.argsort(numbers)
    if (order[1:] > order[:-1]).all():
        return Factors(numbers, vectors)
    return Factors(numbers[order], vectors[order])
