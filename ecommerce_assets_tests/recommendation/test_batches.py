"""Batches of users."""

import numpy as np
import pyarrow as pa
import pytest

from ecommerce_assets.recommendation.batches import map_in_threads, split_batch


@pytest.mark.parametrize("rows", [0, 1, 5, 100])
def test_every_row_is_in_one_batch(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("ecommerce_assets.recommendation.batches.BATCH_USERS", 7)
    sizes = []

    def process(batches):  # type: ignore[no-untyped-def]
        for batch in batches:
            sizes.append(batch.num_rows)
            yield batch

    table = map_in_threads(pa.table({"id": np.arange(rows)}), process)
    assert sorted(table.column("id").to_pylist()) == list(range(rows))
    assert max(sizes) <= 7

    [batch] = pa.table({"id": np.arange(rows)}).combine_chunks().to_batches() or [None]
    if batch is not None:
        assert pa.Table.from_batches(split_batch(batch)).column("id").to_pylist() == list(range(rows))


def test_without_results_the_table_has_the_given_schema() -> None:
    schema = pa.schema({"kind": pa.string()})
    assert map_in_threads(pa.table({"id": [1]}), lambda _: iter(()), schema) == schema.empty_table()
