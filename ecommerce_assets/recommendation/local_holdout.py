"""The temporal holdouts in the memory of this process, for logs that fit; holdout.py has them as Spark frames.

`local_holdouts` is the entry point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecommerce_assets.recommendation.interactions import EVENTS, LAST, PURCHASED
from ecommerce_assets.recommendation.products import Integers, Products, ids_of
from ecommerce_assets.segmentation.local import LocalUsers, feature_matrix, segment_names
from ecommerce_assets.segmentation.model import SegmentationModel, SegmentationParameters


@dataclass(frozen=True)
class LocalHoldout:
    """The data that a model is trained on and scored with.

    Attributes
    ----------
    pairs
        `user_idx`, `product_idx`, `rating`, `events`, `purchased`, `last` (microseconds since 1970) of each pair as it
        was at the cutoff, all but the first two null where the user did not interact with the product before it;
        `relevant`: whether the user did after it; and the user's `bucket` (see `BUCKETS`).
    segments
        `user_idx`, `segment`, `total_events` of the users with an event before the cutoff.
    products
        Products with an event before the cutoff.
    """

    pairs: pa.Table
    segments: pa.Table
    products: Products

    @cached_property
    def interactions(self) -> pa.Table:
        """Returns the pairs before the cutoff, in the form of `collect_pairs`."""
        return self.pairs.filter(self.pairs.column("rating").is_valid()).drop_columns(["relevant", "bucket"])


@dataclass(frozen=True)
class Numbered:
    """Ids, and dense numbers for them: most events first, ties by id."""

    ids: pa.Array
    numbers: Integers

    @classmethod
    def of(cls, column: pa.ChunkedArray, events: pa.ChunkedArray) -> tuple[Numbered, Integers]:
        """From a column of ids and the events that each of its rows counts; and the number of each row."""
        encoded = column.combine_chunks().dictionary_encode()
        codes, ids = encoded.indices.to_numpy(), encoded.dictionary
        counts = np.bincount(codes, events.to_numpy(), len(ids))
        place = np.empty(len(ids), np.int64)
        place[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
        numbers = np.empty(len(ids), np.int64)
        numbers[np.lexsort((place, -counts))] = np.arange(len(ids))
        return cls(ids, numbers), numbers[codes]

    def of_ids(self, ids: pa.ChunkedArray) -> pa.Array:
        """Returns the numbers of these ids, as int32; null for unknown ids."""
        return pa.array(self.numbers, pa.int32()).take(pc.index_in(ids, value_set=self.ids).combine_chunks())

    def products(self, rows: Integers) -> Products:
        """Those of the numbers in `rows`."""
        known = np.zeros(len(self.numbers), np.bool_)
        known[rows] = True
        kept = known[self.numbers]
        return Products.of(ids_of(pa.chunked_array([self.ids]))[kept], self.numbers[kept])


def local_holdouts(
    counted: pa.Table,
    names: Sequence[str],
    features_before: Callable[[str], pa.Table],
    segmentation: SegmentationParameters,
) -> tuple[pa.Table, dict[str, LocalHoldout]]:
    """The pairs for the rmse, and the holdouts by name, up to the first that has nothing on one of its sides.

    Parameters
    ----------
    counted
        One row per user and product with any event: `user_id`, `product_id`, `events`, `rating`, `train`, `bucket`, and
        for each name `…_rating`, `…_interactions`, `…_purchased`, `…_last`, `…_events`, `…_relevant`; see
        `events_by_pair`.
    names
        Of the cutoffs, the latest first.
    features_before
        Returns `user_id`, `total_events` and the clustering features by the events before the cutoff of a name.
    """
    users, user_rows = Numbered.of(counted.column("user_id"), counted.column("events"))
    products, product_rows = Numbered.of(counted.column("product_id"), counted.column("events"))
    numbers = {"user_idx": pa.array(user_rows, pa.int32()), "product_idx": pa.array(product_rows, pa.int32())}
    holdouts: dict[str, LocalHoldout] = {}
    model: SegmentationModel | None = None
    segment: npt.NDArray[np.object_]
    for name in names:
        relevant, is_past = counted.column(f"{name}_relevant"), counted.column(f"{name}_rating").is_valid()
        if not (pc.any(relevant).as_py() and pc.any(is_past).as_py()):
            break
        features = features_before(name)
        seen = feature_matrix(features)
        if model is None:
            model = LocalUsers(features).fit(segmentation).model
            segment = segment_names(seen, model.predict(seen), len(model.centres))
        segments = {
            "user_idx": users.of_ids(features.column("user_id")),
            "segment": pa.array(segment[model.predict(seen)], pa.string()),
            "total_events": features.column("total_events"),
        }
        columns = {
            **numbers,
            "rating": counted.column(f"{name}_rating").cast(pa.float32()),
            EVENTS: counted.column(f"{name}_interactions"),
            PURCHASED: counted.column(f"{name}_purchased"),
            LAST: counted.column(f"{name}_last"),
            "relevant": relevant,
            "bucket": counted.column("bucket"),
        }
        pairs = pa.table(columns).filter(pc.or_(is_past, relevant))
        known = products.products(product_rows[counted.column(f"{name}_events").to_numpy() > 0])
        holdouts[name] = LocalHoldout(pairs, pa.table(segments), known)
    rated = pa.table({**numbers, "rating": counted.column("rating"), "train": counted.column("train")})
    return rated.filter(pc.field("rating").is_valid()), holdouts
