"""Generates the shipped sample: daily raw partitions of a fictitious shop, with the irregular values of real logs.

sample_shop.py simulates the shop. Entry points: `generate`, `land_next_day` and the command `ecommerce-assets sample`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecommerce_assets.events.landing import LandingError, land
from ecommerce_assets.events.parsing import parsed_schema
from ecommerce_assets.events.sample_shop import (
    BOT_SHARE,
    DAY,
    FULL_LENGTH,
    Array,
    Columns,
    count_visitors,
    make_bot,
    make_catalogue,
    make_shopping,
    make_visitors,
    make_visits,
)
from ecommerce_assets.events.schema import EVENTS, PARTITION_COLUMN
from ecommerce_assets.settings import DEFAULT_DATA_DIR, SAMPLE_MARKER

FILE_NAME = "part-0.parquet"
FIRST_DAY = date(2019, 10, 1)
FULL_SIZE = 60_000

SAMPLE_SCHEMA = pa.schema([f for f in parsed_schema("bigint") if f.name in EVENTS.names and f.name != "event_id"])

# Share of events, column, and function that changes its value.
IRREGULAR_VALUES: tuple[tuple[float, str, Callable[[Any], Any]], ...] = (
    # Accepted:
    (0.0020, "price", lambda _: 0.0),
    (0.0010, "brand", lambda value: f" {value or ''} "),
    (0.0010, "brand", lambda _: ""),
    (0.0006, "category_code", lambda value: f"{value or ''} "),
    (0.0003, "event_type", lambda value: f" {value}"),
    (0.0004, "user_session", lambda _: None),
    (0.0002, "category_id", lambda _: None),
    # Rejected:
    (0.0004, "event_type", lambda _: "wishlist"),
    (0.0002, "event_type", lambda _: "compare"),
    (0.0002, "price", lambda value: -value),
    (0.0002, "price", lambda _: float("nan")),
    (0.0001, "price", lambda _: float("inf")),
    (0.0002, "price", lambda _: None),
    (0.0002, "user_id", lambda _: None),
    (0.0002, "product_id", lambda _: None),
    (0.0002, "event_time", lambda _: None),
)
WRONG_DAY = 0.0003
REPEATED = 0.0030


def share_a_session(log: Columns, day: Array) -> None:
    """Gives two users of the same time one session id, as on a shared device."""
    user, session = log["user_id"], log["user_session"]
    neighbours = np.flatnonzero((day[1:] == day[:-1]) & (user[1:] != user[:-1]))
    if len(neighbours):
        row = neighbours[len(neighbours) // 2]
        session[session == session[row + 1]] = session[row]


def add_irregular_values(rng: np.random.Generator, log: Columns, day: Array, days: int) -> Array:
    """Changes values and days in place, each row at most once, and returns the rows to write twice.

    Every kind of irregular value occurs at least once if there are enough rows.
    """
    shares = [WRONG_DAY, REPEATED, *(share for share, _, _ in IRREGULAR_VALUES)]
    counts = [max(1, round(share * len(day))) for share in shares]
    moved, repeated, *irregular = np.split(rng.permutation(len(day)), np.cumsum(counts))[:-1]
    day[moved] = np.where(day[moved] > 0, day[moved] - 1, min(1, days - 1))
    for (_, column, change), rows in zip(IRREGULAR_VALUES, irregular, strict=True):
        log[column][rows] = [change(value) for value in log[column][rows]]
    return repeated


def make_tables(events: int, days: int, seed: int, first_day: date) -> list[pa.Table]:
    """Returns one table per day, with the rows in the order of the log."""
    rng = np.random.default_rng(seed)
    catalogue = make_catalogue(rng, round(1_100 * (events / FULL_SIZE) ** 0.6))
    visitors = make_visitors(rng, count_visitors(events, days), days, catalogue)
    shopping = make_shopping(rng, visitors, make_visits(rng, visitors, first_day, days), catalogue)
    bot = make_bot(rng, round(events * BOT_SHARE), catalogue, days)
    log = {name: np.concatenate([shopping[name], bot[name]]) for name in shopping}

    seconds = log["event_time"].astype(np.int64).clip(0, days * DAY - 1)  # visits on the last day may end after it
    order = np.argsort(seconds, kind="stable")
    log, seconds = {name: values[order] for name, values in log.items()}, seconds[order]
    day = seconds // DAY
    midnight = int(datetime.combine(first_day, time(), UTC).timestamp())
    log["event_time"] = ((midnight + seconds) * 1_000_000).astype(object)
    share_a_session(log, day)
    repeated = add_irregular_values(rng, log, day, days)

    rows = np.concatenate([np.arange(len(day)), repeated])
    late = (day[rows] % 3 == 1) & (rng.random(len(rows)) < 0.05)  # every third file is not sorted by time
    rows = rows[np.lexsort((seconds[rows] + late * rng.integers(0, 3600, len(rows)), day[rows]))]
    table = pa.table({f.name: pa.array(log[f.name][rows].tolist(), f.type) for f in SAMPLE_SCHEMA}, SAMPLE_SCHEMA)
    edges = np.searchsorted(day[rows], np.arange(days + 1))
    return [table.slice(low, high - low) for low, high in pairwise(edges)]


def clear_sample(folder: Path) -> None:
    """Removes an earlier sample. Raises FileExistsError, and removes nothing, if the folder has other events."""
    partitions = sorted(folder.glob(f"{PARTITION_COLUMN}=*"))
    is_sample = (folder / SAMPLE_MARKER).exists() and all(f.name == FILE_NAME for p in partitions for f in p.iterdir())
    if partitions and not is_sample:
        raise FileExistsError(f"{folder} has events that are not a generated sample: choose another data dir.")
    for partition in partitions:
        (partition / FILE_NAME).unlink(missing_ok=True)
        partition.rmdir()


def generate(
    out_dir: Path, events: int = FULL_SIZE, days: int = FULL_LENGTH, seed: int = 42, first_day: date = FIRST_DAY
) -> int:
    """Writes the sample to `raw/events` in a data dir, replacing an earlier one, and returns the number of rows.

    The same arguments give the same bytes.

    Parameters
    ----------
    events
        Approximate number of rows; it determines the numbers of users and products.

    Raises
    ------
    FileExistsError
        The data dir has other events.
    """
    if events < 1 or days < 1:
        raise ValueError(f"events and days must be at least 1, got {events} and {days}")
    tables = make_tables(events, days, seed, first_day)
    folder = Path(out_dir) / "raw" / "events"
    clear_sample(folder)
    folder.mkdir(parents=True, exist_ok=True)
    command = f"ecommerce-assets sample --seed {seed} --events {events} --days {days}"
    about = {"about": "Generated sample, not real data.", "seed": seed, "first_day": str(first_day), "command": command}
    # The marker first, so that a partially written sample can be replaced.
    (folder / SAMPLE_MARKER).write_text(json.dumps(about, indent=2) + "\n")
    for i, table in enumerate(tables):
        partition = folder / f"{PARTITION_COLUMN}={first_day + timedelta(days=i)}"
        partition.mkdir()
        pq.write_table(table, partition / FILE_NAME, compression="zstd")
    return sum(table.num_rows for table in tables)


def next_day(shop: Path) -> tuple[date, pa.Table]:
    """Returns the day after the last raw day of a shop, and events for it.

    These are the events of a week earlier, with new sessions and without a random tenth.
    """
    folder = shop / "raw" / "events"
    last = max(date.fromisoformat(path.name.partition("=")[2]) for path in folder.glob(f"{PARTITION_COLUMN}=*"))
    day = last + timedelta(days=1)
    path = folder / f"{PARTITION_COLUMN}={day - timedelta(days=7)}"
    table = pq.read_table(path, partitioning=None).select(SAMPLE_SCHEMA.names)
    is_kept = pa.array(np.random.default_rng(day.toordinal()).random(table.num_rows) >= 0.1)
    is_of_day = pc.equal(pc.cast(table["event_time"], pa.date32()), pa.scalar(day - timedelta(days=7)))
    table = table.filter(pc.and_(is_kept, is_of_day))
    later = {
        "event_time": pc.add(table["event_time"], pa.scalar(timedelta(days=7))),
        "user_session": pc.binary_join_element_wise(table["user_session"], str(day), "-"),
    }
    return day, pa.table({name: later.get(name, table[name]) for name in table.column_names})


def land_next_day(shop: Path, source: Path) -> date:
    """Lands one more day in the data dir `shop`, which is first copied from `source` if missing; returns the day."""
    if not (shop / "raw" / "events").exists():
        shutil.copytree(source / "raw", shop / "raw", ignore=shutil.ignore_patterns(SAMPLE_MARKER))
    with tempfile.TemporaryDirectory() as folder:
        day, events = next_day(shop)
        pq.write_table(events, f"{folder}/{day}.parquet")
        land([f"{folder}/{day}.parquet"], shop)
    return day


@click.command("sample")
@click.argument("out", default=DEFAULT_DATA_DIR, type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=42, show_default=True, help="Seed of the generator.")
@click.option("--events", type=int, default=FULL_SIZE, show_default=True, help="Approximate number of events.")
@click.option("--days", type=int, default=FULL_LENGTH, show_default=True, help="Number of days, from 2019-10-01.")
@click.option(
    "--add-day",
    metavar="SHOP",
    type=click.Path(path_type=Path),
    help="Land one more day in the data dir SHOP, which is first copied from OUT if it is missing.",
)
def command(out: Path, seed: int, events: int, days: int, add_day: Path | None) -> None:
    """Write generated events of a fictitious shop to the data dir OUT, by default `data`.

    The same options give the same bytes. Other events in OUT are never replaced.

    \b
    Examples:
      ecommerce-assets sample ~/sample
      ecommerce-assets sample --add-day ~/sample
    """
    try:
        if add_day:
            day = land_next_day(add_day, out)
            click.echo(f"Landed {day} in {add_day}. If `dagster dev` runs on it, recommendations are updated soon.")
        else:
            click.echo(f"Wrote {generate(out, events, days, seed):,} events to {out / 'raw' / 'events'}.")
    except (FileExistsError, FileNotFoundError, LandingError, ValueError) as error:
        raise click.ClickException(str(error)) from None
