"""Predicted interest of users in groups of products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecommerce_assets.recommendation.als_model import LocalModel, SavedModel
from ecommerce_assets.recommendation.interest import Interest
from ecommerce_assets.recommendation.local_als import Factors
from ecommerce_assets.storage.filesystem import Folder


def test_interest_is_the_highest_dot_product_also_of_many_users_and_products(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    users, products = (random.standard_normal((n, 4)).astype(np.float32) for n in (25_000, 3_000))
    numbers = np.arange(0, 6_000, 2, dtype=np.int32)  # products with odd numbers have no ratings
    LocalModel(Factors(np.arange(25_000, dtype=np.int32), users), Factors(numbers, products)).save(str(tmp_path))
    model = SavedModel(Folder(str(tmp_path)))
    interest = Interest(model, {"one": np.array([4, 5], np.int32), "many": numbers[100:]})
    of_users, of_products = interest.of_users(), interest.of_products("one")
    assert (of_users["user_idx"].to_numpy() == np.arange(25_000)).all()
    assert np.allclose(of_users["one"], users @ products[2], atol=1e-5)
    assert np.allclose(of_users["many"], (users @ products[100:].T).max(axis=1), atol=1e-5)
    assert (of_products["product_idx"].to_numpy() == numbers).all()
    assert np.allclose(of_products["likeness"], products @ products[2], atol=1e-5)
    with pytest.raises(LookupError, match="unknown"):
        Interest(model, {"one": np.array([4], np.int32), "unknown": np.array([5], np.int32)})
