"""Batches of users."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pytest

from ecommerce_assets.recommendation.batches import map_in_threads, split_batch


@pytest.mark.parametrize("rows", [0, 1, 5, 100])
def test_every_row_is_in_one_batch(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("ecommerce_assets.recommendation.batches.BATCH_USERS", 7)
    users = pa.table({"id": np.arange(rows)})

    def process(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches

    results = map_in_threads(users, process)
    assert max(batch.num_rows for batch in results) <= 7
    assert sorted(pa.Table.from_batches(results).column("id").to_pylist()) == list(range(rows))

    slices = [part for batch in users.to_batches() for part in split_batch(batch)]
    assert [part.num_rows for part in slices] == [7] * (rows // 7) + [rows % 7] * bool(rows % 7)
