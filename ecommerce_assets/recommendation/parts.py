"""Users in parts, a part per call, on the threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pyarrow as pa

from ecommerce_assets.recommendation.local_als import cores

USERS_AT_ONCE = 2_000
"""Users whose candidates are in memory at once: some 500,000 candidates with their features, 60 MB."""

PAIRS_IN_PROCESS = 5_000_000
"""With more pairs users go to Spark's workers, which share no interpreter lock but take four seconds to start."""


def parts_of(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in parts of at most `USERS_AT_ONCE` rows."""
    for start in range(0, batch.num_rows, USERS_AT_ONCE):
        yield batch.slice(start, USERS_AT_ONCE)


def by_threads(
    users: pa.Table,
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

    threads, empty = cores(), pa.RecordBatch.from_pylist([], users.schema)
    size = max(1, min(USERS_AT_ONCE, -(-users.num_rows // threads)))
    parts = users.combine_chunks().to_batches(max_chunksize=size) or [empty]
    # A thread for each core is enough: those that a product of matrices would start wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        made = list(pool.map(lambda first: list(make(parts[first::threads])), range(threads)))
    return pa.Table.from_batches(chain.from_iterable(made), schema)
