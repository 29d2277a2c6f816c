"""ALS and the top 10 alone: our kernels, MLlib, `implicit` and a plain matrix product, on the same pairs.

The pairs are those of the graph if it ran, else those of DuckDB. All systems search the top 10 with the factors of our
engine and without exclusions. Reading and converting data is not measured. The objective is that of MLlib: `implicit`
minimises another one (its regularisation is not scaled by the number of ratings, its factors can be negative).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets_tests.benchmarks import process
from ecommerce_assets_tests.benchmarks.objective import Matrix, objective
from ecommerce_assets_tests.benchmarks.part import TOP, Place, Stopwatch, missing, run_part

Pairs = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]
SCORES_AT_ONCE = 1 << 26
"""Scores of the plain product in memory: 256 MB."""
MAX_SCORES = 2_000_000_000
"""Maximum number of scores of the plain product, which take a minute; with more, some users are drawn."""


def read_pairs(place: Place, work: Path) -> tuple[Pairs, str]:
    """Returns user rows, product rows and ratings, and their source."""
    from ecommerce_assets.storage.lake import Lake, VersionNotFoundError

    lake = Lake(str(place.shop))
    try:
        version = lake.latest("interaction_data")
        files = [f"{lake.asset(version.asset).path}/{file.path}" for file in lake.files(version)]
        source = "the graph's interaction_data"
    except VersionNotFoundError:
        from ecommerce_assets_tests.benchmarks.duckdb_peer import tables

        tables(place.export, work, Stopwatch(), ("user_index", "product_index", "interaction_data"))
        files, source = [f"{work}/interaction_data.parquet"], "DuckDB's interaction_data"
    # Spark's files differ in nullability, so the columns are cast.
    kinds = {"user_idx": np.int32, "product_idx": np.int32, "rating": np.float32}
    table = pa.concat_tables(pq.read_table(file, columns=list(kinds)) for file in files)
    user, product, rating = (table.column(name).to_numpy().astype(kind) for name, kind in kinds.items())
    return (user, product, rating), source


def dense(numbers: npt.NDArray[np.int32], vectors: Matrix, rows: int) -> Matrix:
    """Returns factors with a row for each index from 0; zero for indices without factors."""
    matrix = np.zeros((rows, vectors.shape[1]), np.float32)
    matrix[numbers] = vectors
    return matrix


def ours_als(pairs: Pairs) -> tuple[Matrix, Matrix]:
    from ecommerce_assets.recommendation.als_parameters import AlsParameters
    from ecommerce_assets.recommendation.local_als import LocalAls

    parameters = AlsParameters().spark_params()
    iterations = parameters.pop("maxIter")
    als = LocalAls(*pairs, **parameters)
    for _ in als.run(iterations):
        pass
    users, products = als.factors()
    shape = shape_of(pairs)
    return dense(users.indices, users.vectors, shape[0]), dense(products.indices, products.vectors, shape[1])


def shape_of(pairs: Pairs) -> tuple[int, int]:
    return int(pairs[0].max()) + 1, int(pairs[1].max()) + 1


def ours_top(users: Matrix, products: Matrix) -> Matrix:
    from ecommerce_assets.recommendation.top_k import Excluded, Items, top_k

    return top_k(users, Items.of(products), Excluded.nothing(len(users)), TOP)[1]


def draw_users(users: int, products: int) -> npt.NDArray[np.int64]:
    """Returns the rows of the users for the plain product: all, or as many as `MAX_SCORES` allows."""
    if users * products <= MAX_SCORES:
        return np.arange(users)
    return np.sort(np.random.default_rng(0).choice(users, MAX_SCORES // products, replace=False))


def brute_force_top(users: Matrix, products: Matrix) -> Matrix:
    """Returns the highest scores of each user, from the whole product in batches of users."""
    best = np.empty((len(users), TOP), np.float32)
    step = max(1, SCORES_AT_ONCE // len(products))
    for start in range(0, len(users), step):
        scores = users[start : start + step] @ products.T
        top = np.argpartition(scores, -TOP, axis=1)[:, -TOP:]
        best[start : start + step] = -np.sort(-np.take_along_axis(scores, top, axis=1), axis=1)
    return best


def by_implicit(
    pairs: Pairs, users: Matrix, products: Matrix, watch: Stopwatch
) -> tuple[tuple[Matrix, Matrix], Matrix]:
    """Returns the factors of its ALS on the pairs, and the scores of its search with the given factors."""
    from ecommerce_assets_tests.benchmarks.duckdb_peer import implicit_als, matrix, one_blas_thread

    with one_blas_thread():
        ratings, model = matrix(pairs[2], pairs[0], pairs[1], shape_of(pairs)), implicit_als()
        with watch("als: implicit"):
            model.fit(ratings, show_progress=False)
        fitted = np.asarray(model.user_factors), np.asarray(model.item_factors)
        model.user_factors, model.item_factors = users, products
        with watch("top 10: implicit"):
            _, scores = model.recommend(np.arange(len(users)), ratings, N=TOP, filter_already_liked_items=False)
    return fitted, scores


def by_mllib(pairs: Pairs, users: Matrix, products: Matrix, place: Place, work: Path) -> dict[str, Any]:
    """Runs kernels_mllib.py in another process; returns its results."""
    columns = dict(zip(("user_idx", "product_idx", "rating"), pairs, strict=True))
    pq.write_table(pa.table(columns), work / "pairs.parquet", row_group_size=1 << 18)
    for name, factors in (("users", users), ("products", products)):
        offsets = pa.array(np.arange(0, factors.size + 1, factors.shape[1], dtype=np.int64))
        lists = pa.LargeListArray.from_arrays(offsets, pa.array(factors.ravel()))
        numbers = pa.array(np.arange(len(factors), dtype=np.int32))
        table = pa.table({"id": numbers, "features": lists.cast(pa.list_(pa.float32()))})
        pq.write_table(table, work / f"{name}.parquet", row_group_size=1 << 14)
    command = [sys.executable, "-m", "ecommerce_assets_tests.benchmarks.kernels_mllib"]
    finished = process.run([*command, "--root", str(place.root), "--memory", place.memory], work / "mllib")
    results = finished.document()
    if finished.exit_code or results is None:
        raise RuntimeError(f"MLlib ended with {finished.exit_code}; see {work}/mllib.err")
    return {**results, "peak_bytes": finished.peak_bytes}


def read_factors(folder: Path, rows: int) -> Matrix:
    """Reads factors that Spark wrote as `id`, `features`."""
    table = pq.read_table(folder)
    flat = table.column("features").combine_chunks().flatten().to_numpy()
    return dense(table.column("id").to_numpy(), flat.reshape(len(table), -1), rows)


def read_scores(folder: Path, users: int) -> Matrix:
    """Reads the scores of recommendForAllUsers, one row per user."""
    table = pq.read_table(folder)
    scores = table.column("recommendations").combine_chunks().flatten().field("rating").to_numpy()
    best = np.empty((users, TOP), np.float32)
    best[table.column(0).to_numpy()] = scores.reshape(-1, TOP)
    return best


def difference(scores: Matrix, expected: Matrix) -> float:
    """Returns the largest absolute difference of two scores of the same rank."""
    return float(np.abs(scores.astype(np.float64) - expected).max(initial=0))


def by_brute_force(users: Matrix, products: Matrix, times: float, watch: Stopwatch) -> Matrix:
    """Returns the scores of the full product; multiplies the seconds by `times`, for users who were not drawn."""
    step = max(1, SCORES_AT_ONCE // len(products))
    with watch("top 10: product alone"):
        for start in range(0, len(users), step):
            np.matmul(users[start : start + step], products.T)
    with watch("top 10: brute force"):
        expected = brute_force_top(users, products)
    for stage in ("top 10: product alone", "top 10: brute force"):
        watch.seconds[stage] *= times
    return expected


def compare(pairs: Pairs, place: Place, work: Path) -> dict[str, Any]:
    """Returns seconds, objectives and score differences of all systems."""
    from ecommerce_assets_tests.benchmarks.graph import compile_kernels

    watch, notes = Stopwatch(), []
    compiled = compile_kernels()
    with watch("als: ours"):
        users, products = ours_als(pairs)
    objectives = {"ours": objective(pairs, users, products)}
    with watch("top 10: ours"):
        ours = ours_top(users, products)
    drawn = draw_users(len(users), len(products))
    expected = by_brute_force(users[drawn], products, len(users) / len(drawn), watch)
    if len(drawn) < len(users):
        notes.append(
            f"brute force ran for {len(drawn):,} of {len(users):,} users, drawn at random; its seconds are scaled to "
            "all users."
        )
    differences = {"ours": difference(ours[drawn], expected)}
    peaks: dict[str, int | None] = {}
    if without := missing("implicit", "scipy", "threadpoolctl"):
        notes.append(f"No ALS and top 10 of implicit: {without}")
    else:
        fitted, scores = by_implicit(pairs, users, products, watch)
        objectives["implicit"] = objective(pairs, *fitted)
        differences["implicit"] = difference(scores[drawn], expected)
        del fitted, scores
    if place.with_mllib:
        results = by_mllib(pairs, users, products, place, work)
        watch.seconds.update(results["stages"])
        rows = shape_of(pairs)
        fitted = read_factors(work / "als" / "users", rows[0]), read_factors(work / "als" / "products", rows[1])
        objectives["MLlib"] = objective(pairs, *fitted)
        differences["MLlib"] = difference(read_scores(work / "top", len(users))[drawn], expected)
        peaks["MLlib"] = results["peak_bytes"]
    return {
        "pairs": len(pairs[2]),
        "users": len(users),
        "products": len(products),
        "stages": watch.seconds,
        "compile_seconds": compiled,
        "objectives": objectives,
        "score_differences": differences,
        "peak_bytes_apart": peaks,
        "notes": notes,
    }


def measure(place: Place) -> dict[str, Any]:
    work = place.work("kernels")
    # An empty cache, so that compile_seconds is the time on a new machine. Numba reads the variable on import.
    os.environ["NUMBA_CACHE_DIR"] = str(work / "numba")
    pairs, source = read_pairs(place, work)
    return {**compare(pairs, place, work), "source": source}


if __name__ == "__main__":
    run_part(measure)
