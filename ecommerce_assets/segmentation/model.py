"""`SegmentationModel`, the fitted segmentation: the means and scales of the features, and the centres of the clusters.

Both engines fit the same kind of model. It is saved as a folder that `PipelineModel.load` of plain PySpark reads, and
loaded with Arrow, without Spark jobs.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, ByteType, DoubleType, IntegerType, StructType

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.storage.spark_ml import read_params, rows_of, write_metadata
from ecommerce_assets.storage.stored_table import write_rows

if TYPE_CHECKING:  # Spark ML takes a second to import, and executors, which import this module, may lack fsspec
    from pyspark.ml import PipelineModel

    from ecommerce_assets.storage.filesystem import Folder

Floats = npt.NDArray[np.float64]

SEGMENTATION_MODEL_PARTS = {
    "StandardScaler.mean": "vector",
    "StandardScaler.std": "vector",
    "KMeans.clusterCenters": "array<vector>",
}
"""The parts of the fitted model that segmented_users is computed from, with their types."""

ASSEMBLER: dict[str, Any] = {"inputCols": list(CLUSTERING_FEATURES), "outputCol": "features_raw"}
SCALER: dict[str, Any] = {"inputCol": "features_raw", "outputCol": "features", "withMean": True, "withStd": True}
KMEANS: dict[str, Any] = {"featuresCol": "features", "predictionCol": "segment_id"}
"""Parameters of the stages, by Spark's names. `SegmentationParameters` has the others of K-Means."""

_VECTOR = pa.struct(
    [
        pa.field("type", pa.int8(), nullable=False),
        pa.field("size", pa.int32()),
        pa.field("indices", pa.list_(pa.field("element", pa.int32(), nullable=False))),
        pa.field("values", pa.list_(pa.field("element", pa.float64(), nullable=False))),
    ]
)
"""A vector as Spark ML stores it: sparse (type 0) or dense (type 1)."""

_SPARK_VECTOR = {
    "type": "udt",
    "class": "org.apache.spark.ml.linalg.VectorUDT",
    "pyClass": "pyspark.ml.linalg.VectorUDT",
    "sqlType": StructType()
    .add("type", ByteType(), False)
    .add("size", IntegerType())
    .add("indices", ArrayType(IntegerType(), False))
    .add("values", ArrayType(DoubleType(), False))
    .jsonValue(),
}


def _schema(*fields: pa.Field) -> pa.Schema:
    """Returns a schema with Spark's in its metadata, without which Spark reads a vector as a struct and fails."""
    spark_fields = [
        {
            "name": field.name,
            "type": _SPARK_VECTOR if field.type == _VECTOR else "integer",
            "nullable": field.nullable,
            "metadata": {},
        }
        for field in fields
    ]
    document = json.dumps({"type": "struct", "fields": spark_fields})
    return pa.schema(fields, {"org.apache.spark.sql.parquet.row.metadata": document})


_SCALER_SCHEMA = _schema(pa.field("std", _VECTOR), pa.field("mean", _VECTOR))
_CENTRES_SCHEMA = _schema(pa.field("clusterIdx", pa.int32(), nullable=False), pa.field("clusterCenter", _VECTOR))


@dataclass(frozen=True)
class SegmentationParameters:
    """Parameters of the K-Means stage, by Spark's names."""

    k: int = 5
    seed: int = 42
    maxIter: int = 20

    def as_dict(self) -> dict[str, Any]:
        """Returns the parameters by Spark's names."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> SegmentationParameters:
        """Returns the parameters in a version's parameters; ignores other names, uses defaults for missing ones."""
        return cls(**{name: values[name] for name in asdict(cls()) if values.get(name) is not None})


@dataclass(frozen=True)
class SegmentationModel:
    """A fitted segmentation.

    Attributes
    ----------
    mean, std
        (f,) mean and sample standard deviation of each feature, in the order of `CLUSTERING_FEATURES`.
    centres
        (c, f) in standardised features. c is the parameter k, or the number of different users if that is smaller.
    parameters
        Parameters of the fit.
    """

    mean: Floats
    std: Floats
    centres: Floats
    parameters: SegmentationParameters

    def predict(self, features: Floats) -> npt.NDArray[np.intp]:
        """Returns the number of the nearest centre for each user; ties go to the smaller number.

        Parameters
        ----------
        features
            (n, f) features in their own units, without null.
        """
        scaled = (features - self.mean) * scale_of(self.std)
        # Feature by feature, in the order in which `assign` adds them.
        parts = ((scaled[:, [n]] - self.centres[:, n]) ** 2 for n in range(len(self.mean)))
        return np.asarray(sum(parts).argmin(axis=1))  # type: ignore[union-attr]

    def assign(self, users: DataFrame) -> DataFrame:
        """Returns the users with `segment_id`, the same number as from `predict`, as a column expression.

        Parameters
        ----------
        users
            `CLUSTERING_FEATURES` as doubles, without null.
        """
        standards = zip(CLUSTERING_FEATURES, self.mean.tolist(), scale_of(self.std).tolist(), strict=True)
        scaled = [(F.col(name) - F.lit(mean)) * F.lit(scale) for name, mean, scale in standards]
        distances = [
            F.struct(_squared_distance(scaled, centre).alias("distance"), F.lit(number).alias("segment_id"))
            for number, centre in enumerate(self.centres.tolist())
        ]
        return users.withColumn("segment_id", F.array_min(F.array(*distances))["segment_id"])

    def save(self, path: str) -> None:
        """Writes the folder `path`, a URI, in the layout of Spark ML's `PipelineModel`."""
        from ecommerce_assets.storage.filesystem import Folder

        folder = Folder(path)
        uids = [f"{name}_{secrets.token_hex(6)}" for name in ("VectorAssembler", "StandardScaler", "KMeans")]
        write_metadata(folder, "PipelineModel", f"PipelineModel_{secrets.token_hex(6)}", {"stageUids": uids})
        assembler, scaler, kmeans = _stages(folder, uids)
        write_metadata(assembler, "feature.VectorAssembler", uids[0], ASSEMBLER)
        write_metadata(scaler, "feature.StandardScalerModel", uids[1], SCALER)
        moments = [{"std": _as_vector(self.std), "mean": _as_vector(self.mean)}]
        write_rows(scaler / "data", pa.Table.from_pylist(moments, _SCALER_SCHEMA))
        write_metadata(kmeans, "clustering.KMeansModel", uids[2], {**KMEANS, **self.parameters.as_dict()})
        centres = [{"clusterIdx": n, "clusterCenter": _as_vector(centre)} for n, centre in enumerate(self.centres)]
        write_rows(kmeans / "data", pa.Table.from_pylist(centres, _CENTRES_SCHEMA))

    @classmethod
    def load(cls, folder: Folder) -> SegmentationModel:
        """Returns the model in a folder that `save` or Spark ML wrote.

        Raises
        ------
        OSError
            If a file is missing or its checksum is wrong.
        """
        _, scaler, kmeans = _stages(folder, read_params(folder)["stageUids"])
        [moments] = rows_of(scaler / "data", _SCALER_SCHEMA).to_table().to_pylist()
        centres = (
            rows_of(kmeans / "data", _CENTRES_SCHEMA)
            .to_table()
            .sort_by("clusterIdx")
            .column("clusterCenter")
            .to_pylist()
        )
        return cls(
            _as_array(moments["mean"]),
            _as_array(moments["std"]),
            np.array([_as_array(centre) for centre in centres]),
            SegmentationParameters.of(read_params(kmeans)),
        )


@dataclass(frozen=True)
class Fit:
    """A fitted model, and its quality on the users that it was fitted to.

    Attributes
    ----------
    cost
        Sum of squared distances to the centres, in standardised features.
    silhouette
        Mean silhouette with squared Euclidean distance (Rousseeuw 1987), -1 to 1; None if fewer than two
        clusters have users, or if there are no more users than clusters.
    """

    model: SegmentationModel
    cost: float
    silhouette: float | None


def scale_of(std: Floats) -> Floats:
    """Returns the factor for each centred feature: 1 / std, or 0 for a constant feature, as in Spark."""
    return np.divide(1.0, std, out=np.zeros_like(std), where=std > 0)


def as_pipeline(model: SegmentationModel, folder: str) -> PipelineModel:
    """Saves the model in `folder`, and returns it as Spark ML's `PipelineModel`, loaded from there."""
    from pyspark.ml import PipelineModel

    from ecommerce_assets.spark.connect import spark_path

    model.save(folder)
    return PipelineModel.load(spark_path(folder))


def _squared_distance(scaled: list[Column], centre: list[float]) -> Column:
    total = F.lit(0.0)
    for feature, coordinate in zip(scaled, centre, strict=True):
        difference = feature - F.lit(coordinate)
        total = total + difference * difference
    return total


def _stages(folder: Folder, uids: list[str]) -> list[Folder]:
    return [folder / "stages" / f"{n}_{uid}" for n, uid in enumerate(uids)]


def _as_vector(vector: Floats) -> dict[str, Any]:
    return {"type": 1, "values": vector.tolist()}


def _as_array(stored: dict[str, Any]) -> Floats:
    values = np.array(stored["values"], np.float64)
    if stored["type"] == 1:
        return values
    dense = np.zeros(stored["size"])
    dense[stored["indices"]] = values
    return dense
