"""Predicts the interest of users in groups of products, from a saved ALS model: `Interest`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ecommerce_assets.recommendation.als_model import ROWS_PER_BATCH, SavedModel
from ecommerce_assets.recommendation.local_als import Floats

PRODUCTS_PER_CHUNK = 1_000
"""Products whose dot products are in memory at once: 40 MB with the `ROWS_PER_BATCH` rows of a batch."""


class Interest:
    """The interest of a model's users in groups of products.

    The interest in a product is the preference that the model predicts: the dot product of the factors of user and
    product, about 0 to 1 (Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008).
    The interest in a group is the highest among its products.

    Parameters
    ----------
    model
        A model with the factors of all users and products.
    groups
        The product_idx of the products of each group, by the name of the group.

    Raises
    ------
    LookupError
        If the model has factors for none of the products of a group. The argument is the name of the group.
    """

    def __init__(self, model: SavedModel, groups: Mapping[str, npt.NDArray[np.int32]]) -> None:
        self._model, known = model, model.products
        self._vectors = {name: known.vectors[np.isin(known.indices, indices)] for name, indices in groups.items()}
        for name, vectors in self._vectors.items():
            if not len(vectors):
                raise LookupError(name)

    def of_users(self) -> pa.Table:
        """Returns `user_idx` (int32), and one column of floats for each group.

        The factors of the users are read in parts, because they may not fit in memory.
        """
        schema = pa.schema([("user_idx", pa.int32()), *((name, pa.float32()) for name in self._vectors)])
        batches = []
        for part in self._model.user_parts():
            columns = [part.indices, *(_highest(part.vectors, vectors) for vectors in self._vectors.values())]
            batches.append(pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=schema))
        return pa.Table.from_batches(batches, schema)

    def of_products(self, group: str) -> pa.Table:
        """Returns `product_idx` (int32) and `likeness` (float): how much a product in a user's history contributes.

        It is the highest dot product of its factors with those of a product of the group. Multiplied by the rating, it
        is the product's term in the explanation of Hu, Koren and Volinsky (2008), section 5, without the inverse
        matrix between the two vectors of factors.
        """
        known = self._model.products
        return pa.table({"product_idx": known.indices, "likeness": _highest(known.vectors, self._vectors[group])})


def _highest(rows: Floats, products: Floats) -> Floats:
    """Returns for each row the highest dot product with a product."""
    highest = np.full(len(rows), -np.inf, np.float32)
    for begin in range(0, len(rows), ROWS_PER_BATCH):
        batch = slice(begin, begin + ROWS_PER_BATCH)
        for start in range(0, len(products), PRODUCTS_PER_CHUNK):
            of_chunk = (rows[batch] @ products[start : start + PRODUCTS_PER_CHUNK].T).max(axis=1)
            np.maximum(highest[batch], of_chunk, out=highest[batch])
    return highest
