"""DuckDB for the tables, and the package `implicit` for ALS and the top 10.

The tables have the same columns as ours, and are written as Parquet too.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets_tests.benchmarks.part import TOP, Place, Stopwatch, missing, run_part

USER_FEATURES = """
select user_id,
    date_diff('day', max(event_time)::date, (select max(event_time)::date from events)) recency,
    count(distinct event_time::date) frequency,
    coalesce(sum(price) filter (event_type = 'purchase'), 0) monetary,
    count(*) total_events,
    count(*) filter (event_type = 'view') as views,
    count(*) filter (event_type = 'cart') as carts,
    count(*) filter (event_type = 'remove_from_cart') as removals,
    count(*) filter (event_type = 'purchase') as purchases,
    count(distinct product_id) unique_products,
    count(distinct category_id) unique_categories,
    count(distinct brand) unique_brands,
    count(distinct user_session) unique_sessions,
    avg(price) avg_price,
    coalesce(purchases / nullif(views, 0), 0) conversion_rate,
    coalesce((carts - purchases) / nullif(carts, 0), 0) cart_abandonment,
    min(event_time) first_event_time,
    max(event_time) last_event_time
from events group by user_id
"""
PRODUCT_FEATURES = """
select product_id,
    coalesce(split_part(arg_max(category_code, event_time), '.', 1), 'unknown') category,
    arg_max(brand, event_time) brand,
    count(*) total_events,
    count(*) filter (event_type = 'view') as total_views,
    count(*) filter (event_type = 'cart') as total_carts,
    count(*) filter (event_type = 'remove_from_cart') as total_removals,
    count(*) filter (event_type = 'purchase') as total_purchases,
    count(distinct user_id) unique_users,
    avg(price) avg_price,
    coalesce(sum(price) filter (event_type = 'purchase'), 0) revenue,
    coalesce(total_purchases / nullif(total_views, 0), 0) conversion_rate,
    (3 * total_purchases + 2 * total_carts + total_views) / unique_users enhanced_popularity_score
from events group by product_id
"""
INDEX = """
select {0}_id, (row_number() over (order by count(*) desc, {0}_id) - 1)::int {0}_idx, count(*) as events
from events group by {0}_id
"""
INTERACTIONS = """
with pairs as (
    select user_id, product_id,
        least(sum(case event_type when 'view' then 1 when 'cart' then 3 else 5 end), 10)::double rating,
        count(*) interaction_count,
        count(*) filter (event_type = 'purchase') as purchases,
        max(event_time) last_interaction_at
    from events where event_type in ('view', 'cart', 'purchase') group by user_id, product_id
)
select user_idx, product_idx, rating, interaction_count, purchases, last_interaction_at
from pairs join user_index using (user_id) join product_index using (product_id)
"""
TABLES = {
    "user_features": USER_FEATURES,
    "product_features": PRODUCT_FEATURES,
    "user_index": INDEX.format("user"),
    "product_index": INDEX.format("product"),
    "interaction_data": INTERACTIONS,
}


def tables(export: Path, work: Path, watch: Stopwatch, names: tuple[str, ...] = tuple(TABLES)) -> None:
    """Computes tables with DuckDB, and writes each as one Parquet file, `work`/name.parquet."""
    with duckdb.connect() as database:
        database.execute(f"set threads = {os.cpu_count()}; set temp_directory = '{work}/duckdb'; set timezone = 'UTC'")
        database.execute("set preserve_insertion_order = false")
        database.execute(f"create view events as from '{export}/*.parquet'")
        for name in names:
            with watch(name):
                database.execute(f"copy ({TABLES[name]}) to '{work}/{name}.parquet'")
                database.execute(f"create view {name} as from '{work}/{name}.parquet'")


def matrix(values: Any, users: Any, products: Any, shape: tuple[int, int]) -> Any:
    """Returns a sparse matrix of users and products, as `implicit` needs it."""
    import scipy.sparse

    return scipy.sparse.csr_matrix((values.astype(np.float32), (users, products)), shape=shape)


def implicit_als(threads: int = 0) -> Any:
    """Returns the ALS of `implicit` with the project's parameters, except nonnegative factors, which it lacks."""
    from implicit.als import AlternatingLeastSquares

    ours = AlsParameters()
    return AlternatingLeastSquares(
        factors=ours.rank,
        iterations=ours.maxIter,
        regularization=ours.regParam,
        alpha=ours.alpha,
        random_state=ours.seed,
        num_threads=threads,
        use_gpu=False,
    )


def one_blas_thread() -> AbstractContextManager[Any]:
    """Limits BLAS to one thread, as `implicit` advises, because it starts threads itself."""
    import implicit.als  # noqa: F401 - first, because the limit applies only to loaded libraries
    import threadpoolctl

    limits: AbstractContextManager[Any] = threadpoolctl.threadpool_limits(1, "blas")
    return limits


def recommendations(work: Path, watch: Stopwatch) -> None:
    """Fits ALS on the interactions, and writes the top 10 of every user without products that the user bought."""
    with one_blas_thread():
        with watch("als_model"):
            pairs = pq.read_table(f"{work}/interaction_data.parquet")
            users, products, rating, purchases = (
                pairs.column(name).to_numpy() for name in ("user_idx", "product_idx", "rating", "purchases")
            )
            shape = int(users.max()) + 1, int(products.max()) + 1
            model = implicit_als()
            model.fit(matrix(rating, users, products, shape), show_progress=False)
            np.savez(f"{work}/als_model.npz", users=model.user_factors, products=model.item_factors)
        with watch("recommendations"):
            bought = purchases > 0
            purchased = matrix(purchases[bought], users[bought], products[bought], shape)
            listed, scores = model.recommend(np.arange(shape[0]), purchased, N=TOP, filter_already_liked_items=True)
            user_ids, product_ids = (
                pq.read_table(f"{work}/{name}_index.parquet").sort_by(f"{name}_idx").column(f"{name}_id")
                for name in ("user", "product")
            )
            rows, ranks = np.nonzero(listed >= 0)  # short lists end with -1
            table = pa.table(
                {
                    "user_id": user_ids.take(pa.array(rows)),
                    "rank": (ranks + 1).astype(np.int32),
                    "product_id": product_ids.take(pa.array(listed[rows, ranks])),
                    "score": scores[rows, ranks],
                }
            )
            pq.write_table(table, f"{work}/recommendations.parquet")


def measure(place: Place) -> dict[str, Any]:
    """Returns seconds by stage."""
    work, watch = place.work("duckdb"), Stopwatch()
    tables(place.export, work, watch)
    without = missing("implicit", "scipy", "threadpoolctl")
    if without:
        return {"stages": watch.seconds, "notes": [f"No ALS and top 10 beside DuckDB: {without}"]}
    recommendations(work, watch)
    return {"stages": watch.seconds}


if __name__ == "__main__":
    run_part(measure)
