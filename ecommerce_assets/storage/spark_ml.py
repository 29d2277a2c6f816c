"""Writes and reads the folders of Spark ML's models without Spark: metadata as one line of JSON, data as Parquet."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyspark

from ecommerce_assets.storage.stored_table import parquet_dataset

if TYPE_CHECKING:  # executors, which import the modules of models, need not have fsspec
    import pyarrow as pa
    import pyarrow.dataset as ds

    from ecommerce_assets.storage.filesystem import Folder


def write_metadata(
    folder: Folder,
    kind: str,
    uid: str,
    params: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    **more: Any,
) -> None:
    """Writes the folder `metadata` of a model.

    Parameters
    ----------
    folder
        Folder of the model.
    kind
        Java class, without `org.apache.spark.ml.`.
    uid
        Spark's name of the model, such as `KMeans_` and 12 random digits.
    params, defaults
        Values by Spark's names. For a missing default, the Spark that loads the model uses its default.
    more
        Further entries of the metadata that the class needs.
    """
    document = {
        "class": f"org.apache.spark.ml.{kind}",
        "timestamp": int(time.time() * 1000),
        "sparkVersion": pyspark.__version__,
        "uid": uid,
        "paramMap": params,
        "defaultParamMap": defaults or {},
        **more,
    }
    (folder / "metadata").write_whole("part-00000.txt", (json.dumps(document) + "\n").encode())


def read_params(folder: Folder) -> dict[str, Any]:
    """Returns the parameters that are set in the metadata of a model, by Spark's names."""
    part = folder / "metadata"
    text = b"".join(part.read_bytes(file.path) for file in part.data_files())
    params: dict[str, Any] = json.loads(text)["paramMap"]
    return params


def rows_of(folder: Folder, schema: pa.Schema | None = None) -> ds.Dataset:
    """Returns the Parquet files of a table. Reading them raises OSError if a file is missing or a checksum is wrong."""
    files = [f"{folder.path}/{file.path}" for file in folder.data_files()]
    return parquet_dataset(files, schema, folder.fs)
