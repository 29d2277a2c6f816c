"""ALS models: the factors as NumPy arrays, and the folder of a saved model.

`LocalModel` is fitted by the local engine and `MllibModel` by Spark. Both save a folder that plain PySpark loads with
`ALSModel.load`; `SavedModel` reads it with Arrow.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType, IntegerType, StructField, StructType

from ecommerce_assets.recommendation.local_als import Factors
from ecommerce_assets.spark.connect import frame_of
from ecommerce_assets.storage.spark_ml import rows_of, write_metadata
from ecommerce_assets.storage.stored_table import write_rows

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
"""Parts of the model that other tables are computed from: columns of the folders of the saved model, and their types.
"""

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


class AlsModel(Protocol):
    """Factors of the users by `user_idx`, and of the products by `product_idx`."""

    @property
    def users(self) -> Factors:
        """Returns the factors of the users, in this process."""

    @property
    def products(self) -> Factors:
        """Returns the factors of the products, in this process."""

    def user_frame(self, spark: SparkSession) -> DataFrame:
        """Returns `id` and `features` of the users."""


class FittedModel(AlsModel, Protocol):
    """A model that was just fitted and can be saved."""

    def save(self, path: str) -> None:
        """Saves the model to the folder `path`, a URI, in the layout of MLlib's `ALSModel`."""

    def describe(self) -> dict[str, int]:
        """Returns counts: `users` and `products` with factors, `vectors_not_finite`, and `vectors_negative`.

        A vector counts if any of its numbers is not finite, or negative.
        """


@dataclass(frozen=True)
class LocalModel:
    """A model of the local engine, which is saved without Spark."""

    users: Factors
    products: Factors

    def user_frame(self, spark: SparkSession) -> DataFrame:
        return frame_of(spark, factor_table(self.users), SPARK_SCHEMA)

    def save(self, path: str) -> None:
        from ecommerce_assets.storage.filesystem import Folder

        folder = Folder(path)
        for name, factors in ((USER_FACTORS, self.users), (ITEM_FACTORS, self.products)):
            write_rows(folder / name, factor_table(factors), row_group_size=10 * ROWS_PER_BATCH)
        uid, rank = f"ALS_{secrets.token_hex(6)}", self.products.vectors.shape[1]
        write_metadata(folder, "recommendation.ALSModel", uid, COLUMNS, DEFAULTS, rank=rank)

    def describe(self) -> dict[str, int]:
        sides = (self.users.vectors, self.products.vectors)
        return {
            "users": len(sides[0]),
            "products": len(sides[1]),
            "vectors_not_finite": sum(int((~np.isfinite(vectors)).any(axis=1).sum()) for vectors in sides),
            "vectors_negative": sum(int((vectors < 0).any(axis=1).sum()) for vectors in sides),
        }


@dataclass(frozen=True)
class MllibModel:
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
        users, products = (
            frame.select(
                F.lit(is_user).alias("is_user"),
                F.array_min("features").alias("lowest"),
                F.array_max("features").alias("highest"),
            )
            for frame, is_user in ((self.model.userFactors, True), (self.model.itemFactors, False))
        )
        infinity = float("inf")
        [row] = (
            users.unionAll(products)
            .agg(
                F.count_if("is_user").alias("users"),
                F.count_if(~F.col("is_user")).alias("products"),
                # Spark orders NaN above infinity.
                F.count_if((F.col("lowest") == -infinity) | (F.col("highest") >= infinity)).alias("vectors_not_finite"),
                F.count_if(F.col("lowest") < 0).alias("vectors_negative"),
            )
            .collect()
        )
        return dict(row.asDict())


@dataclass(frozen=True)
class SavedModel:
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
        from ecommerce_assets.spark.connect import read_files

        return read_files(spark, [(self.folder / USER_FACTORS).uri], SPARK_SCHEMA)

    def _read(self, name: str) -> Factors:
        return as_factors(rows_of(self.folder / name, ARROW_SCHEMA).to_table())


def as_spark_model(model: FittedModel, folder: str) -> ALSModel:
    """Returns the model as MLlib's `ALSModel`. A local model is saved to `folder`, from which Spark loads it."""
    from pyspark.ml.recommendation import ALSModel

    from ecommerce_assets.spark.connect import spark_path

    if isinstance(model, MllibModel):
        return model.model
    model.save(folder)
    return ALSModel.load(spark_path(folder))


def factor_table(factors: Factors) -> pa.Table:
    """Returns `id` and `features` as in MLlib's models, made without a Python object per number."""
    rank = factors.vectors.shape[1]
    batches = []
    for start in range(0, len(factors.indices), ROWS_PER_BATCH):
        vectors = factors.vectors[start : start + ROWS_PER_BATCH]
        begins = pa.array(np.arange(0, vectors.size + 1, rank, dtype=np.int32))
        features = pa.ListArray.from_arrays(begins, pa.array(vectors.ravel()), type=_FEATURES)
        ids = pa.array(factors.indices[start : start + ROWS_PER_BATCH])
        batches.append(pa.RecordBatch.from_arrays([ids, features], schema=ARROW_SCHEMA))
    return pa.Table.from_batches(batches, ARROW_SCHEMA)


def as_factors(table: Any) -> Factors:
    """Returns the factors in a table with `id` and `features`, whose rows may be in any order."""
    ids = table.column("id").to_numpy().astype(np.int32)
    flat = table.column("features").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = np.asarray(flat, np.float32).reshape(len(ids), len(flat) // max(len(ids), 1))
    order = np.argsort(ids)
    if (order[1:] > order[:-1]).all():
        return Factors(ids, vectors)  # sorted already: no copy
    return Factors(ids[order], vectors[order])
