"""The temporal holdouts in the memory of this process: `local_holdouts`.

holdout.py decides whether they fit in memory, and makes them in Spark otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecommerce_assets.recommendation.fitting import histories_in_process, lists_of
from ecommerce_assets.recommendation.interactions import EVENTS, LAST, PURCHASED
from ecommerce_assets.recommendation.products import Integers, Products, ids_of
from ecommerce_assets.segmentation.local import LocalUsers, feature_matrix, segment_names
from ecommerce_assets.segmentation.model import SegmentationModel, SegmentationParameters


@dataclass(frozen=True)
class LocalHoldout:
    """The data that models are trained on and scored with.

    Attributes
    ----------
    pairs
        `user_idx`, `product_idx`, `rating`, `events`, `purchased`, `last` (microseconds since 1970) of each pair as it
        was at the cutoff, all but the first two null if the user did not interact with the product before it;
        `relevant`: whether the user interacted with it after the cutoff; and the user's `bucket` (see `BUCKETS`).
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

    @property
    def users(self) -> pa.Table:
        """Returns the users with an interaction after the cutoff; its columns are those of `Holdout.users`."""
        relevant, known = self.pairs.filter(self.pairs.column("relevant")), self.segments
        distinct, first = np.unique(relevant.column("user_idx").to_numpy(), return_index=True)
        users = pa.array(distinct)
        at = pc.index_in(users, value_set=known.column("user_idx").combine_chunks())
        products = relevant.column("product_idx").combine_chunks()
        return pa.table(
            {
                "user_idx": users,
                "bucket": relevant.column("bucket").take(pa.array(first)),
                "history": histories_in_process(self.interactions, users),
                "segment": known.column("segment").take(at),
                "total_events": known.column("total_events").take(at),
                "relevant": lists_of(relevant.column("user_idx"), products, users),
            }
        )


@dataclass(frozen=True)
class DenseIndex:
    """Ids and their dense indices: most events first, ties by id, as in `build_index`."""

    ids: pa.Array
    indices: Integers

    @classmethod
    def of(cls, column: pa.ChunkedArray, events: pa.ChunkedArray) -> tuple[DenseIndex, Integers]:
        """Returns the index of a column of ids whose rows have these numbers of events, and the index of each row."""
        encoded = column.combine_chunks().dictionary_encode()
        codes, ids = encoded.indices.to_numpy(), encoded.dictionary
        counts = np.bincount(codes, events.to_numpy(), len(ids))
        place = np.empty(len(ids), np.int64)
        place[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
        indices = np.empty(len(ids), np.int64)
        indices[np.lexsort((place, -counts))] = np.arange(len(ids))
        return cls(ids, indices), indices[codes]

    def of_ids(self, ids: pa.ChunkedArray) -> pa.Array:
        """Returns the indices of these ids as int32; null for unknown ids."""
        return pa.array(self.indices, pa.int32()).take(pc.index_in(ids, value_set=self.ids).combine_chunks())

    def products(self, indices: Integers) -> Products:
        """Returns the products with these indices."""
        known = np.zeros(len(self.indices), np.bool_)
        known[indices] = True
        kept = known[self.indices]
        return Products.of(ids_of(pa.chunked_array([self.ids]))[kept], self.indices[kept])


def local_holdouts(
    by_pair: pa.Table,
    names: Sequence[str],
    features_before: Callable[[str], pa.Table],
    segmentation: SegmentationParameters,
) -> tuple[pa.Table, dict[str, LocalHoldout]]:
    """Returns the pairs for the rmse, and the holdouts by name; none from the first one that is empty on a side.

    Parameters
    ----------
    by_pair
        One row per user and product with any event: `user_id`, `product_id`, `events`, `rating`, `train`, `bucket`, and
        for each name `…_rating`, `…_interactions`, `…_purchased`, `…_last`, `…_events`, `…_relevant`; see
        `events_by_pair`.
    names
        Names of the cutoffs, the latest first.
    features_before
        Returns for the name of a cutoff `user_id`, `total_events` and the clustering features of the events before it.
    segmentation
        Parameters of the segments, which are fitted on the events before the first cutoff.
    """
    users, user_idx = DenseIndex.of(by_pair.column("user_id"), by_pair.column("events"))
    products, product_idx = DenseIndex.of(by_pair.column("product_id"), by_pair.column("events"))
    indices = {"user_idx": pa.array(user_idx, pa.int32()), "product_idx": pa.array(product_idx, pa.int32())}
    holdouts: dict[str, LocalHoldout] = {}
    model: SegmentationModel | None = None
    segment: npt.NDArray[np.object_]
    for name in names:
        relevant, is_past = by_pair.column(f"{name}_relevant"), by_pair.column(f"{name}_rating").is_valid()
        if not (pc.any(relevant).as_py() and pc.any(is_past).as_py()):
            break
        features = features_before(name)
        values = feature_matrix(features)
        if model is None:
            model = LocalUsers(features).fit(segmentation).model
            segment = segment_names(values, model.predict(values), len(model.centres))
        segments = {
            "user_idx": users.of_ids(features.column("user_id")),
            "segment": pa.array(segment[model.predict(values)], pa.string()),
            "total_events": features.column("total_events"),
        }
        columns = {
            **indices,
            "rating": by_pair.column(f"{name}_rating").cast(pa.float32()),
            EVENTS: by_pair.column(f"{name}_interactions"),
            PURCHASED: by_pair.column(f"{name}_purchased"),
            LAST: by_pair.column(f"{name}_last"),
            "relevant": relevant,
            "bucket": by_pair.column("bucket"),
        }
        pairs = pa.table(columns).filter(pc.or_(is_past, relevant))
        known = products.products(product_idx[by_pair.column(f"{name}_events").to_numpy() > 0])
        holdouts[name] = LocalHoldout(pairs, pa.table(segments), known)
    rated = pa.table({**indices, "rating": by_pair.column("rating"), "train": by_pair.column("train")})
    return rated.filter(pc.field("rating").is_valid()), holdouts
