"""Users in parts, a part per call, on the threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pyarrow as pa
from pyspark.sql import DataFrame

from ecommerce_assets.recommendation.local_als import cores

USERS_AT_ONCE = 2_000
"""Users whose candidates are in memory at once: some 500,000 candidates with their features, 60 MB."""

PAIRS_IN_PROCESS = 5_000_000
"""With more pairs Spark's workers, which share no interpreter lock, are worth the four seconds of their start."""


def parts_of(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in parts of at most `USERS_AT_ONCE` rows."""
    for start in range(0, batch.num_rows, USERS_AT_ONCE):
        yield batch.slice(start, USERS_AT_ONCE)


def by_threads(
    users: DataFrame,
    make: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    schema: pa.Schema | None = None,
) -> pa.Table:
    """What `make` yields for the parts of the users, of which there is one at least; each thread calls it once.

    Parameters
    ----------
    schema
        Of what it yields; None: it yields something in any case.
    """
    from threadpoolctl import threadpool_limits

    threads, table = cores(), users.toArrow().combine_chunks()
    empty = pa.RecordBatch.from_pylist([], table.schema)
    parts = table.to_batches(max_chunksize=max(1, min(USERS_AT_ONCE, -(-table.num_rows // threads)))) or [empty]
    # A thread for each core is enough: those that a product of matrices would start wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        made = list(pool.map(lambda first: list(make(parts[first::threads])), range(threads)))
    return pa.Table.from_batches(chain.from_iterable(made), schema)
