"""Processes users in batches, in threads of this process. `map_in_threads` is the entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import pyarrow as pa

from ecommerce_assets.recommendation.local_als import cores

Result = TypeVar("Result")

BATCH_USERS = 2_000
"""Maximum number of users per batch: about 500,000 candidates with their features, 60 MB."""

PAIRS_IN_PROCESS = 5_000_000
"""With more pairs, Spark's workers make the lists: they share no interpreter lock, but take four seconds to start."""


def split_batch(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yields slices of at most `BATCH_USERS` rows."""
    for start in range(0, batch.num_rows, BATCH_USERS):
        yield batch.slice(start, BATCH_USERS)


def map_in_threads(users: pa.Table, process: Callable[[Iterable[pa.RecordBatch]], Iterator[Result]]) -> list[Result]:
    """Returns all results that `process` yields for batches of the users.

    Parameters
    ----------
    users
        The users; without rows, `process` gets one empty batch.
    process
        Called once per thread, with the batches of this thread.
    """
    from threadpoolctl import threadpool_limits

    threads, empty = cores(), pa.RecordBatch.from_pylist([], users.schema)
    size = max(1, min(BATCH_USERS, -(-users.num_rows // threads)))
    batches = users.combine_chunks().to_batches(max_chunksize=size) or [empty]
    # One BLAS thread per Python thread: more would wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(lambda first: list(process(batches[first::threads])), range(threads)))
    return list(chain.from_iterable(results))
