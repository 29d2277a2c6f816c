"""The products in the order of their ids, in which ties are broken, and their positions in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Products:
    """Product ids, and the positions of their numbers.

    Attributes
    ----------
    ids
        Product ids, ascending: a product's place here is its position.
    position_of
        Position of each product_idx; -1 where there is none.
    """

    ids: npt.NDArray[Any]
    position_of: npt.NDArray[np.int64]

    @classmethod
    def of(cls, ids: npt.NDArray[Any], numbers: npt.NDArray[Any]) -> Products:
        """From ids and their product_idx, in any order."""
        order = np.argsort(ids, kind="stable")
        position_of = np.full(int(numbers.max(initial=-1)) + 1, -1, np.int64)
        position_of[numbers[order]] = np.arange(len(ids))
        return cls(ids[order], position_of)

    def including(self, ids: npt.NDArray[Any]) -> Products:
        """Returns these products together with further ones, which have no number."""
        added = ids[self.find(ids) < 0]
        if not len(added):
            return self
        together = np.concatenate([self.ids, added])
        order = np.argsort(together, kind="stable")
        place = np.empty(len(together), np.int64)
        place[order] = np.arange(len(together))
        moved = np.where(self.position_of >= 0, place[self.position_of], -1)
        return Products(together[order], moved)

    def find(self, ids: npt.NDArray[Any]) -> Integers:
        """Returns the position of each of these product ids; -1 for unknown ids."""
        if not len(self.ids):
            return np.full(len(ids), -1, np.int64)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[places] == ids, places, -1)

    def positions(self, numbers: npt.NDArray[Any]) -> Integers:
        """Position of each of these product_idx; -1 where there is none."""
        known = (numbers >= 0) & (numbers < len(self.position_of))
        positions = np.full(len(numbers), -1, np.int64)
        positions[known] = self.position_of[numbers[known]]
        return positions


INDEXED = ("product_id", "product_idx")
"""Columns of product_index that `products_of` reads."""


def products_of(product_index: pa.Table) -> Products:
    """From `INDEXED` of product_index."""
    return Products.of(*(ids_of(product_index.column(name)) for name in INDEXED))


def ids_of(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Ids as NumPy has them: integers or texts."""
    return np.asarray(column.to_numpy())


def batch_type(ids: npt.NDArray[Any]) -> pa.DataType:
    """Arrow's type for ids."""
    return pa.int64() if np.issubdtype(ids.dtype, np.integer) else pa.string()
