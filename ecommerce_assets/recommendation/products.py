"""Product ids and their positions: places in the order of the ids. Lists and recommenders use positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Products:
    """The p products in the order of their ids.

    Attributes
    ----------
    ids
        (p,) product ids, ascending; the place of a product in it is its position.
    position_of
        Position of each product_idx; -1 if no product has it.
    """

    ids: npt.NDArray[Any]
    position_of: Integers

    @classmethod
    def of(cls, ids: npt.NDArray[Any], numbers: npt.NDArray[Any]) -> Products:
        """Returns the products with these ids and product_idx, which may be in any order."""
        order = np.argsort(ids, kind="stable")
        position_of = np.full(int(numbers.max(initial=-1)) + 1, -1, np.int64)
        position_of[numbers[order]] = np.arange(len(ids))
        return cls(ids[order], position_of)

    def including(self, ids: npt.NDArray[Any]) -> Products:
        """Returns these products together with further ones, which have no product_idx."""
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
        """Returns the position of each of these product_idx; -1 for unknown ones."""
        known = (numbers >= 0) & (numbers < len(self.position_of))
        positions = np.full(len(numbers), -1, np.int64)
        positions[known] = self.position_of[numbers[known]]
        return positions


INDEXED = ("product_id", "product_idx")
"""Columns of product_index that `products_of` reads."""


def products_of(product_index: pa.Table) -> Products:
    """Returns the products of a table with the columns `INDEXED`."""
    return Products.of(*(ids_of(product_index.column(name)) for name in INDEXED))


def ids_of(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Returns ids as a NumPy array of integers or strings."""
    return np.asarray(column.to_numpy())


def batch_type(ids: npt.NDArray[Any]) -> pa.DataType:
    """Returns the Arrow type of ids."""
    return pa.int64() if np.issubdtype(ids.dtype, np.integer) else pa.string()
