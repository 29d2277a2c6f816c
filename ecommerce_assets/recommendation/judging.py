"""What the compared systems offer to the users of the holdout, and what of it was relevant, in one pass over the users.

What is trained for it stands in evaluation.py, how hits become metrics in metrics.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.recommendation.lists import BY_MODEL, SOURCES, Lists, Products, Recommender, ragged
from ecommerce_assets.recommendation.metrics import Flags, Integers, hits_of
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES

SYSTEMS = ("als", "published", "popularity")
"""The model alone, the model with its fallback, and what is popular in the shop."""

BASELINE = "popularity"
FEW, SOME = 5, 20
SERVED_BY_MODEL, SERVED_BY_FALLBACK = "served by: als", "served by: fallback"

SLICES = {
    "all": "all users",
    SERVED_BY_MODEL: "served by ALS",
    SERVED_BY_FALLBACK: "served by the fallback",
    "events: none": "no events before",
    "events: few": f"1 to {FEW - 1} events before",
    "events: some": f"{FEW} to {SOME - 1} events before",
    "events: many": f"{SOME} events or more before",
    **{f"segment: {name}": name for name in SEGMENT_NAMES},
}
"""What slices of users are called where people read it, in order; those without a segment are those without events."""

ARROW_TYPES: dict[str, pa.DataType] = {
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
}
"""Spark's types by name, as Arrow's."""

_LENGTHS = (*SOURCES, BASELINE)
"""Entries of the published list by source, and of the popularity list."""

_KEYS = ("events", "segment", "wanted", *_LENGTHS, "hits", "bucket", "system", "position")
_KINDS = dict.fromkeys(_KEYS, "int") | {"events": "string", "segment": "string", "hits": "binary", "n": "bigint"}
_SCHEMA = ", ".join(f"{name} {kind}" for name, kind in _KINDS.items())


@dataclass(frozen=True)
class Judged:
    """Groups of users who are alike in everything that is measured, and how often each product was shown.

    Attributes
    ----------
    users
        (g,) number of users of each group.
    wanted
        (g,) number of relevant products of each of them.
    hits
        By system, (g, k): which places of the list hold a relevant product.
    from_source
        By source, (g,) number of entries of the published list that are from it.
    lengths
        By system, (g,) length of the list.
    slices
        By name, which groups belong to it.
    shown
        By system, by position of the product, how many users it was shown.
    buckets
        (g,) bucket of the users of each group; 0 where they were not put into any.
    """

    users: Integers
    wanted: Integers
    hits: dict[str, Flags]
    from_source: dict[str, Integers]
    lengths: dict[str, Integers]
    slices: dict[str, Flags]
    shown: dict[str, Integers]
    buckets: Integers


def _activity() -> SparkColumn:
    events = F.col("total_events")
    return F.when(events.isNull(), "none").when(events < FEW, "few").when(events < SOME, "some").otherwise("many")


def judge(users: DataFrame, products: Products, recommender: Recommender) -> Judged:
    """Make every user's lists and compare them with what was relevant.

    Parameters
    ----------
    users
        `features` (null: unknown to the model), `segment`, `total_events` (null: unknown before), `excluded` and
        `relevant` (arrays of product_idx), `wanted` (number of relevant products, also of those that nobody could have
        recommended), and perhaps `bucket` (int): users of different buckets are never in one group.
    """
    popularity = replace(recommender, fallback=recommender.fallback.without_segments())
    shared = users.sparkSession.sparkContext.broadcast((products, recommender, popularity))

    def batches(incoming: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        products, recommender, popularity = shared.value
        shown = np.zeros((len(SYSTEMS), len(products.ids)), np.int64)
        for batch in incoming:
            excluded = products.excluded(batch.column("excluded"))
            nowhere = pa.nulls(batch.num_rows, pa.string())
            published = recommender.lists(batch.column("features"), batch.column("segment"), excluded)
            popular = popularity.lists(None, nowhere, excluded)
            by_model = published.filled & (published.sources == BY_MODEL)
            listings = ((published, by_model), (published, published.filled), (popular, popular.filled))
            for row, listed in enumerate(lists.positions[counted] for lists, counted in listings):
                shown[row] += np.bincount(listed, minlength=shown.shape[1])
            yield from _grouped(_per_user(batch, products, published, by_model, popular))
        systems, positions = np.nonzero(shown)
        counts = {"system": systems.astype(np.int32), "position": positions.astype(np.int32)}
        yield from _with_all_columns(pa.table({**counts, "n": shown[systems, positions]}))

    bucket = F.col("bucket") if "bucket" in users.columns else F.lit(None).cast("int")
    own = ("segment", "wanted", "features", "excluded", "relevant")
    columns = users.select(_activity().alias("events"), *own, bucket.alias("bucket"))
    counted = columns.mapInArrow(batches, _SCHEMA).groupBy(*_KEYS).agg(F.sum("n").alias("n")).toArrow()
    return _judged(counted.sort_by([(name, "ascending") for name in _KEYS]), len(products.ids), recommender.k)


def _per_user(batch: pa.RecordBatch, products: Products, published: Lists, by_model: Flags, popular: Lists) -> pa.Table:
    begins, idx = ragged(batch.column("relevant"))
    owners, relevant = np.repeat(np.arange(batch.num_rows), np.diff(begins)), products.position_of[idx]
    in_published = hits_of(published.positions, owners, relevant)
    hits = np.hstack([in_published & by_model, in_published, hits_of(popular.positions, owners, relevant)])
    lengths = {
        source: (published.filled & (published.sources == code)).sum(axis=1) for code, source in enumerate(SOURCES)
    }
    lengths[BASELINE] = popular.filled.sum(axis=1)
    return pa.table(
        {
            **{name: batch.column(name) for name in ("events", "segment", "wanted", "bucket")},
            **{name: length.astype(np.int32) for name, length in lengths.items()},
            "hits": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(hits.shape[1]), len(hits), [None, pa.py_buffer(hits.tobytes())]
            ).cast(pa.binary()),
        }
    )


def _grouped(per_user: pa.Table) -> Iterator[pa.RecordBatch]:
    grouped = per_user.group_by(per_user.column_names).aggregate([([], "count_all")])
    return _with_all_columns(grouped.rename_columns({"count_all": "n"}))


def _with_all_columns(table: pa.Table) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in _KINDS.items()])
    columns = [
        table.column(field.name) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    yield from pa.table(columns, schema=schema).to_batches()


def _judged(counted: pa.Table, products: int, k: int) -> Judged:
    groups = counted.filter(pc.is_null(counted.column("system")))
    shows = counted.filter(pc.is_valid(counted.column("system")))
    number: dict[str, Any] = {name: groups.column(name).to_numpy() for name in ("n", "wanted", *_LENGTHS)}
    hits = np.frombuffer(b"".join(groups.column("hits").to_pylist()), np.bool_).reshape(-1, len(SYSTEMS), k)
    from_source = {source: number[source] for source in SOURCES}
    lengths = (number[SOURCES[BY_MODEL]], sum(from_source.values()), number[BASELINE])
    shown = np.zeros((len(SYSTEMS), products), np.int64)
    shown[shows.column("system").to_numpy(), shows.column("position").to_numpy()] = shows.column("n").to_numpy()
    return Judged(
        users=number["n"],
        wanted=number["wanted"].astype(np.int64),
        hits={system: hits[:, row] for row, system in enumerate(SYSTEMS)},
        from_source=from_source,
        lengths=dict(zip(SYSTEMS, lengths, strict=True)),
        slices={
            "all": np.ones(len(hits), dtype=bool),
            **_slices(groups, "events"),
            **_slices(groups, "segment"),
            **_by_server(from_source),
        },
        shown=dict(zip(SYSTEMS, shown, strict=True)),
        buckets=groups.column("bucket").fill_null(0).to_numpy(),
    )


def _slices(groups: pa.Table, column: str) -> dict[str, npt.NDArray[np.bool_]]:
    names = np.asarray(groups.column(column).fill_null("none").to_pylist(), dtype=object)
    return {f"{column}: {name}": names == name for name in sorted(set(names.tolist()))}


def _by_server(from_source: dict[str, Integers]) -> dict[str, Flags]:
    """Who got anything from the model, and whom it could not serve at all: the fallback's users."""
    by_model = from_source[SOURCES[BY_MODEL]] > 0
    return {name: own for name, own in ((SERVED_BY_MODEL, by_model), (SERVED_BY_FALLBACK, ~by_model)) if own.any()}
