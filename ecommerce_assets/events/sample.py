"""Generates the shipped sample: 90 days of events of a shop that does not exist, in daily raw partitions.

Belongs here: the catalogue, the visitors, their visits, and the oddities that real logs have, each of them on purpose.
Does not belong here: reading, cleaning or landing of events, and Spark; the project runs on any other log without it.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.events.schema import EVENTS, PARTITION_COLUMN

Array = npt.NDArray[Any]
Columns = dict[str, Array]
"""Columns of events by name: arrays of objects, so that any value may become None."""

MARKER = "_SAMPLE"
FILE_NAME = "part-0.parquet"
FIRST_DAY = date(2019, 10, 1)
DAY = 86_400
FULL_LENGTH = 90
FULL_SIZE = 60_000

ARROW_TYPES = {"timestamp": pa.timestamp("us", tz="UTC"), "string": pa.string(), "double": pa.float64()}
ARROW_SCHEMA = pa.schema([(c.name, ARROW_TYPES.get(c.type, pa.int64())) for c in EVENTS.columns])

# Median prices, the most visited categories first. They lie close together on purpose: with the spread of a
# real shop, k-means would tell visitors apart by whether they looked at a sofa, and not by how they shop.
DEPARTMENTS = {
    "electronics": {"smartphone": 150, "audio.headphone": 70, "video.tv": 160, "clocks": 95},
    "apparel": {"shoes": 75, "jacket": 85, "shirt": 55},
    "computers": {"notebook": 170, "peripherals.mouse": 55, "peripherals.printer": 105},
    "appliances": {"kitchen.kettle": 55, "environment.vacuum": 110, "kitchen.refrigerators": 170},
    "kids": {"toys": 55, "carriage": 120},
    "furniture": {"living_room.sofa": 165, "bedroom.bed": 145, "kitchen.table": 120},
    "construction": {"tools.drill": 90, "tools.light": 55},
    "sport": {"bicycle": 140, "tent": 95},
    "accessories": {"bag": 60, "wallet": 55},
}
CATEGORY_CODES = np.array([f"{d}.{name}" for d, names in DEPARTMENTS.items() for name in names], object)
CATEGORY_PRICES = np.array([price for names in DEPARTMENTS.values() for price in names.values()], float)
CATEGORY_DEPARTMENT = np.repeat(np.arange(len(DEPARTMENTS)), [len(names) for names in DEPARTMENTS.values()])
# A style is a taste that a visitor keeps in every category; the first half of a brand tells its style.
STYLES = ("plain", "bright", "quiet", "grand")
STYLE_PRICE = np.array([0.8, 0.95, 1.05, 1.3])
STYLE_SHARE = np.array([0.34, 0.28, 0.22, 0.16])
BRAND_WORDS = ("heron", "otter", "maple", "pebble", "lantern", "meadow", "harbor", "thimble")
HOUR_SHARE = np.array([2, 3, 5, 8, 11, 12, 13, 13, 13, 12, 12, 12, 12, 13, 15, 17, 17, 15, 12, 8, 5, 4, 3, 2]) / 239


class Persona(NamedTuple):
    """How one kind of visitor behaves. Means are those of a sample of full length."""

    share: float
    arrival: tuple[float, float]  # parameters of a Beta over the days of the sample
    stays: float  # share of the days left in which they may come back
    visits: float
    views: float  # per visit
    buys: float  # purchases per view
    abandons: float  # carts per view that no purchase follows
    fidelity: float  # share of visits to a favourite category


PERSONAS = (
    Persona(0.30, (1.2, 7.0), 0.1, 1.2, 1.9, 0.003, 0.004, 0.7),  # looked in during the opening weeks
    Persona(0.31, (7.0, 1.5), 0.3, 1.3, 1.9, 0.003, 0.004, 0.7),  # looked in before the holidays
    Persona(0.16, (2.5, 2.0), 0.6, 3.0, 3.5, 0.004, 0.010, 0.8),  # browses now and then
    Persona(0.07, (7.0, 1.5), 0.6, 1.6, 1.8, 0.550, 0.010, 0.8),  # comes for one thing and buys it
    Persona(0.11, (1.0, 5.0), 1.0, 10.0, 3.7, 0.030, 0.020, 0.7),  # a regular
    Persona(0.05, (1.0, 9.0), 1.0, 25.0, 4.6, 0.065, 0.070, 0.7),  # an enthusiast
)
TRUE_TO_STYLE = 0.7
BACK_TO_SHORTLIST = 0.1
CART_BEFORE_PURCHASE = 0.19
REMOVED_OF_ABANDONED = 0.45
PURCHASE_BEFORE_VIEW = 0.08
BOT_USER, BOT_SHARE, BOT_DAYS, BOT_PRODUCTS = 599_999_999, 0.042, 12, 48

# The share of events that bear an oddity: the column, and what becomes of its value.
ODDITIES: tuple[tuple[float, str, Callable[[Any], Any]], ...] = (
    # accepted …
    (0.0020, "price", lambda _: 0.0),
    (0.0010, "brand", lambda value: f" {value or ''} "),
    (0.0010, "brand", lambda _: ""),
    (0.0006, "category_code", lambda value: f"{value or ''} "),
    (0.0003, "event_type", lambda value: f" {value}"),
    (0.0004, "user_session", lambda _: None),
    (0.0002, "category_id", lambda _: None),
    # … and rejected
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


@dataclass(frozen=True)
class Catalogue:
    """The products, sorted by category and style, so that each pair of them is one range of rows."""

    columns: Columns
    reach: Array  # cumulated popularity, from 0
    edges: Array  # first product of each category and style

    def draw(self, rng: np.random.Generator, category: Array, style: Array) -> Array:
        """One product per row by popularity; style -1 stands for the whole category."""
        first = category * len(STYLES)
        low = self.edges[first + np.maximum(style, 0)]
        high = self.edges[first + np.where(style < 0, len(STYLES), style + 1)]
        return draw_range(rng, self.reach, low, high)


@dataclass(frozen=True)
class Visitors:
    """The people: who they are, when they are there, what they like."""

    user_id: Array
    persona: Array
    first_day: Array
    last_day: Array
    favourites: Array  # three categories each
    style: Array
    shortlist: Array  # six products that they come back to

    def trait(self, name: str) -> Array:
        return np.array([getattr(p, name) for p in PERSONAS])[self.persona]


@dataclass(frozen=True)
class Visits:
    """Who comes, when, and for which category."""

    user: Array
    start: Array  # seconds since the first day
    category: Array
    to_favourite: Array


def zipf(n: int, exponent: float) -> Array:
    weights = 1 / np.arange(1, n + 1) ** exponent
    share: Array = weights / weights.sum()
    return share


CATEGORY_SHARE = zipf(len(CATEGORY_CODES), 0.5)


def draw_range(rng: np.random.Generator, reach: Array, low: Array, high: Array) -> Array:
    """One index from `low` to `high - 1` per row; `reach` are the cumulated weights of all indices."""
    at = reach[low] + rng.random(len(low)) * (reach[high] - reach[low])
    drawn: Array = np.clip(np.searchsorted(reach, at, side="right") - 1, low, high - 1)
    return drawn


def make_catalogue(rng: np.random.Generator, n: int) -> Catalogue:
    """Products with a Zipf-like popularity, a price and a code that never change; at least one of each kind."""
    kinds = len(CATEGORY_CODES) * len(STYLES)
    kind = np.sort(np.concatenate([np.arange(kinds), rng.integers(0, kinds, max(n - kinds, 0))]))
    n, category, style = len(kind), kind // len(STYLES), kind % len(STYLES)
    popularity = rng.permutation(zipf(n, 0.85))
    views = popularity * (CATEGORY_SHARE / np.bincount(category, popularity))[category]

    def without(share: float, values: Array) -> Array:
        """Nulls for a random choice of products that gets about this share of the views, whatever the seed."""
        order = rng.permutation(n)
        values[order[np.cumsum(views[order]) < share]] = None
        return values

    brand = np.array(STYLES, object)[style] + rng.choice(np.array(BRAND_WORDS, object), n)
    price = CATEGORY_PRICES[category] * STYLE_PRICE[style] * np.exp(rng.normal(0, 0.25, n))
    columns = {
        "product_id": 1_000_000 * (category + 1) + 7 * np.arange(n) + 11,
        "category_id": 2_053_013_552_226_107_603 + 8_388_608 * category,
        "category_code": without(0.32, CATEGORY_CODES[category]),
        "brand": without(0.16, brand),
        "price": np.round(price, 2),
    }
    return Catalogue(columns, np.append(0.0, np.cumsum(popularity)), np.searchsorted(kind, np.arange(kinds + 1)))


def mean_visits(persona: Persona, days: int) -> float:
    """A short sample has fewer visits per person, not the same number squeezed into it."""
    return 1 + (persona.visits - 1) * min(days / FULL_LENGTH, 1)


def count_visitors(events: int, days: int) -> int:
    """As many as it takes for about that many events."""
    per_visitor = 0.0
    for p in PERSONAS:
        actions = p.buys * (1 + CART_BEFORE_PURCHASE) + p.abandons * (1 + REMOVED_OF_ABANDONED)
        per_visitor += p.share * mean_visits(p, days) * p.views * (1 + actions)
    return max(2, round(events * (1 - BOT_SHARE) / per_visitor))


def make_favourites(rng: np.random.Generator, n: int) -> Array:
    """Three categories per visitor; the second and third mostly from the department of the first."""
    related = (CATEGORY_DEPARTMENT[:, None] == CATEGORY_DEPARTMENT) * CATEGORY_SHARE
    chance = 0.6 * related / related.sum(axis=1, keepdims=True) + 0.4 * CATEGORY_SHARE
    first = rng.choice(len(CATEGORY_CODES), n, p=CATEGORY_SHARE)
    below = chance.cumsum(axis=1)[first, :-1]
    return np.stack([first, *((rng.random((n, 1)) > below).sum(axis=1) for _ in range(2))], axis=1)


def make_visitors(rng: np.random.Generator, n: int, days: int, catalogue: Catalogue) -> Visitors:
    """Visitors with a persona, a stay, favourite categories, and one style that they keep."""
    # quotas and not draws: the few who come often make half of the events
    quota = np.cumsum([p.share for p in PERSONAS])[:-1]
    persona = rng.permutation(np.searchsorted(quota, (np.arange(n) + 0.5) / n))
    arrival, stays = np.array([p.arrival for p in PERSONAS])[persona], np.array([p.stays for p in PERSONAS])[persona]
    first_day = (rng.beta(arrival[:, 0], arrival[:, 1]) * days).astype(int).clip(0, days - 1)
    last_day = first_day + (stays * (days - 1 - first_day)).astype(int)
    user_id = 512_000_000 + rng.choice(40_000_000, n, replace=False)
    user_id[rng.random(n) < 0.02] += 1_515_915_625_000_000_000  # some shops have 19 digits
    style = rng.choice(len(STYLES), n, p=STYLE_SHARE)
    favourites = make_favourites(rng, n)
    shortlist = np.stack([catalogue.draw(rng, favourites[:, i % 3], style) for i in range(6)], axis=1)
    return Visitors(user_id, persona, first_day, last_day, favourites, style, shortlist)


def make_visits(rng: np.random.Generator, who: Visitors, first_day: date, days: int) -> Visits:
    """Visits by weekday, with a mild sale in mid-November, and by hour; most of them to a favourite category."""
    mean = np.array([mean_visits(p, days) for p in PERSONAS])[who.persona]
    user = np.repeat(np.arange(len(mean)), 1 + rng.poisson((mean - 1) * rng.gamma(5.0, 0.2, len(mean))))
    n = len(user)
    dates = [first_day + timedelta(days=i) for i in range(days)]
    weekend = np.array([1.2 if d.weekday() >= 5 else 1.0 for d in dates])
    sale = np.array([1.6 if d.month == 11 and 14 <= d.day <= 18 else 1.0 for d in dates])
    reach = np.append(0.0, np.cumsum(weekend * sale))
    day = draw_range(rng, reach, who.first_day[user], who.last_day[user] + 1)
    start = day * DAY + rng.choice(24, n, p=HOUR_SHARE) * 3600 + rng.integers(0, 3600, n)
    to_favourite = rng.random(n) < who.trait("fidelity")[user]
    favourite = who.favourites[user, rng.choice(3, n, p=[0.5, 0.3, 0.2])]
    anything = rng.choice(len(CATEGORY_CODES), n, p=CATEGORY_SHARE)
    return Visits(user, start, np.where(to_favourite, favourite, anything), to_favourite)


def make_shopping(rng: np.random.Generator, who: Visitors, visits: Visits, catalogue: Catalogue) -> Columns:
    """What the visitors view, put in the cart, take out again and buy."""
    views = rng.geometric(1 / who.trait("views")[visits.user])
    visit = np.repeat(np.arange(len(views)), views)
    user, n = visits.user[visit], len(visit)
    true_to_style = visits.to_favourite[visit] & (rng.random(n) < TRUE_TO_STYLE)
    again = visits.to_favourite[visit] & (rng.random(n) < BACK_TO_SHORTLIST)
    product = catalogue.draw(rng, visits.category[visit], np.where(true_to_style, who.style[user], -1))
    product = np.where(again, who.shortlist[user, rng.integers(0, 6, n)], product)
    elapsed = np.cumsum(5 + rng.exponential(70, n).astype(int))
    seen_at = visits.start[visit] + elapsed - np.repeat(elapsed[np.cumsum(views) - views], views)

    bought = rng.random(n) < who.trait("buys")[user]
    kept = bought & (rng.random(n) < CART_BEFORE_PURCHASE)
    abandoned = ~bought & (rng.random(n) < who.trait("abandons")[user])
    removed = abandoned & (rng.random(n) < REMOVED_OF_ABANDONED)
    early = bought & (rng.random(n) < PURCHASE_BEFORE_VIEW)  # real logs have it: another device, a late view
    bought_at = np.where(early, visits.start[visit] - 120, seen_at + rng.integers(100, 900, n))
    actions = (
        ("view", np.ones(n, bool), seen_at),
        ("cart", kept | abandoned, seen_at + rng.integers(5, 90, n)),
        ("remove_from_cart", removed, seen_at + rng.integers(100, 600, n)),
        ("purchase", bought, bought_at),
    )
    row = np.concatenate([np.flatnonzero(chosen) for _, chosen, _ in actions])
    event_type = np.concatenate([np.full(chosen.sum(), name, object) for name, chosen, _ in actions])
    event_time = np.concatenate([at[chosen] for _, chosen, at in actions])
    session = new_sessions(rng, len(views))[visit[row]]
    return as_events(catalogue, event_time, event_type, product[row], who.user_id[user[row]], session)


def make_bot(rng: np.random.Generator, n: int, catalogue: Catalogue, days: int) -> Columns:
    """A price watcher: the same few products over and over for some days, and never a purchase.

    Few products, because a visitor who saw all of them would get a segment to itself.
    """
    active = min(BOT_DAYS, days)
    day = np.arange(n) * active // max(n, 1)
    event_time = ((days - active) * 2 // 3 + day) * DAY + 3600 + np.sort(rng.integers(0, 20 * 3600, n))
    product = rng.integers(0, len(catalogue.reach) - BOT_PRODUCTS) + np.arange(n) % BOT_PRODUCTS
    session = new_sessions(rng, active)[day]
    return as_events(catalogue, event_time, np.full(n, "view", object), product, np.full(n, BOT_USER), session)


def new_sessions(rng: np.random.Generator, n: int) -> Array:
    return np.array([str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(n)], object)


def as_events(
    catalogue: Catalogue, at: Array, event_type: Array, product: Array, user_id: Array, session: Array
) -> Columns:
    columns = {"event_time": at, "event_type": event_type, "user_id": user_id, "user_session": session}
    columns |= {name: values[product] for name, values in catalogue.columns.items()}
    return {name: values.astype(object) for name, values in columns.items()}


def share_a_session(log: Columns, day: Array) -> None:
    """Let two people who are there at the same time bear one session id, as on a shared device."""
    user, session = log["user_id"], log["user_session"]
    neighbours = np.flatnonzero((day[1:] == day[:-1]) & (user[1:] != user[:-1]))
    if len(neighbours):
        row = neighbours[len(neighbours) // 2]
        session[session == session[row + 1]] = session[row]


def add_oddities(rng: np.random.Generator, log: Columns, day: Array, days: int) -> Array:
    """Change single values and days in place, each row at most once; returns the rows to be written twice.

    Every kind occurs at least once, unless there are too few rows for that.
    """
    shares = [WRONG_DAY, REPEATED, *(share for share, _, _ in ODDITIES)]
    counts = [max(1, round(share * len(day))) for share in shares]
    moved, repeated, *odd = np.split(rng.permutation(len(day)), np.cumsum(counts))[:-1]
    day[moved] = np.where(day[moved] > 0, day[moved] - 1, min(1, days - 1))
    for (_, column, change), rows in zip(ODDITIES, odd, strict=True):
        log[column][rows] = [change(value) for value in log[column][rows]]
    return repeated


def make_tables(events: int, days: int, seed: int, first_day: date) -> list[pa.Table]:
    """One table per day, in the order in which the shop wrote it."""
    rng = np.random.default_rng(seed)
    catalogue = make_catalogue(rng, round(1_100 * (events / FULL_SIZE) ** 0.6))
    visitors = make_visitors(rng, count_visitors(events, days), days, catalogue)
    people = make_shopping(rng, visitors, make_visits(rng, visitors, first_day, days), catalogue)
    bot = make_bot(rng, round(events * BOT_SHARE), catalogue, days)
    log = {name: np.concatenate([people[name], bot[name]]) for name in people}

    seconds = log["event_time"].astype(np.int64).clip(0, days * DAY - 1)  # the last visits run past the last day
    order = np.argsort(seconds, kind="stable")
    log, seconds = {name: values[order] for name, values in log.items()}, seconds[order]
    day = seconds // DAY
    midnight = int(datetime.combine(first_day, time(), UTC).timestamp())
    log["event_time"] = ((midnight + seconds) * 1_000_000).astype(object)
    share_a_session(log, day)
    repeated = add_oddities(rng, log, day, days)

    rows = np.concatenate([np.arange(len(day)), repeated])
    late = (day[rows] % 3 == 1) & (rng.random(len(rows)) < 0.05)  # every third file is not in order of time
    rows = rows[np.lexsort((seconds[rows] + late * rng.integers(0, 3600, len(rows)), day[rows]))]
    table = pa.table({f.name: pa.array(log[f.name][rows].tolist(), f.type) for f in ARROW_SCHEMA}, ARROW_SCHEMA)
    edges = np.searchsorted(day[rows], np.arange(days + 1))
    return [table.slice(low, high - low) for low, high in pairwise(edges)]


def clear_sample(folder: Path) -> None:
    """Remove an earlier sample; raises FileExistsError, and removes nothing, where the events are anything else."""
    partitions = sorted(folder.glob(f"{PARTITION_COLUMN}=*"))
    own = (folder / MARKER).exists() and all(f.name == FILE_NAME for p in partitions for f in p.iterdir())
    if partitions and not own:
        raise FileExistsError(f"{folder} holds events that are not this generator's sample; nothing was written.")
    for partition in partitions:
        (partition / FILE_NAME).unlink(missing_ok=True)
        partition.rmdir()


def generate(
    out_dir: Path, events: int = FULL_SIZE, days: int = FULL_LENGTH, seed: int = 42, first_day: date = FIRST_DAY
) -> int:
    """Write the sample below a data dir, in place of an earlier one, and return the number of rows.

    The same arguments give the same bytes.

    Parameters
    ----------
    out_dir
        The data dir; partitions go to `raw/events` in it.
    events
        About how many rows there will be; the numbers of visitors and products follow from it.
    """
    if events < 1 or days < 1:
        raise ValueError(f"a sample needs at least one event and one day, not {events} and {days}")
    tables = make_tables(events, days, seed, first_day)
    folder = Path(out_dir) / "raw" / "events"
    clear_sample(folder)
    folder.mkdir(parents=True, exist_ok=True)
    command = f"python -m ecommerce_assets.events.sample --seed {seed} --events {events} --days {days}"
    about = {"about": "Generated sample, not real data.", "seed": seed, "first_day": str(first_day), "command": command}
    # the marker comes first, so that a folder that was left half-written may be replaced
    (folder / MARKER).write_text(json.dumps(about, indent=2) + "\n")
    for i, table in enumerate(tables):
        partition = folder / f"{PARTITION_COLUMN}={first_day + timedelta(days=i)}"
        partition.mkdir()
        pq.write_table(table, partition / FILE_NAME, compression="zstd")
    return sum(table.num_rows for table in tables)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ecommerce_assets.events.sample", description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=Path(__file__).parents[2] / "data", help="data dir")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--events", type=int, default=FULL_SIZE)
    parser.add_argument("--days", type=int, default=FULL_LENGTH)
    args = parser.parse_args()
    try:
        rows = generate(args.out, args.events, args.days, args.seed)
    except (FileExistsError, ValueError) as error:
        sys.exit(str(error))
    print(f"{rows} events in {args.out / 'raw' / 'events'}")


if __name__ == "__main__":
    main()
