"""Generates the events of the benchmark, with the proportions of a month of a large shop. See `generate`.

There are no invalid events and no repeats, so that all systems count the same. Memory is bounded by the events of a
day and by the numbers of users and products.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets_tests.benchmarks.part import Place

FIRST_DAY, DAYS = dt.date(2019, 10, 1), 31
LAST_DAY = FIRST_DAY + dt.timedelta(days=DAYS - 1)
DAY_SECONDS = 86_400

EVENTS_PER_USER = 14
EVENTS_PER_SESSION = 4.6
CATEGORIES, BRANDS = 130, 3_000
FAVOURITES, LOYALTY = 3, 0.8
"""Number of categories that a user likes, and the share of the user's sessions in these categories."""
MAX_ACTIVITY = 2_000
"""Maximum activity of a user, in about the activity of a mean user: a bot has thousands of events in any log."""
SAME_PRODUCT = 0.35
"""Share of the later events of a session that are about the previous product."""
KINDS, KIND_SHARES = ("view", "cart", "purchase"), (0.96, 0.022, 0.018)
NO_BRAND, NO_CODE = 0.14, 0.32
DEPARTMENTS = (
    *("electronics", "appliances", "computers", "apparel", "furniture"),
    *("auto", "construction", "kids", "sport", "accessories"),
)

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shop:
    """Products and users, drawn once for all days.

    Attributes
    ----------
    by_category, category_begins
        Products ordered by category, and the first position of each category.
    popularity
        Cumulative sum over `by_category`; each category adds 1, so that category c has the values from c to c + 1.
    first_day
        Day of the first session of each user, so that every user has events. Other sessions are drawn by `activity`,
        a cumulative sum that ends at 1.
    """

    category: Integers
    by_category: Integers
    category_begins: Integers
    popularity: npt.NDArray[np.float64]
    price: npt.NDArray[np.float64]
    brand: pa.Array
    code: pa.Array
    first_day: npt.NDArray[np.int8]
    activity: npt.NDArray[np.float64]
    favourites: npt.NDArray[np.uint8]
    category_activity: npt.NDArray[np.float64]

    @classmethod
    def of(cls, events: int, seed: int) -> Shop:
        """Returns a shop with the users and products of a month with this number of events."""
        rng = np.random.default_rng([seed, 0])
        products, users = product_count(events), user_count(events)
        category = rng.integers(0, CATEGORIES, products)
        weight = 1 / np.arange(1, products + 1) ** 0.9  # Zipf
        rng.shuffle(weight)
        by_category = np.argsort(category, kind="stable")
        begins = np.searchsorted(category[by_category], np.arange(CATEGORIES + 1))
        popularity = np.empty(products)
        for number in range(CATEGORIES):
            members = slice(begins[number], begins[number + 1])
            summed = np.cumsum(weight[by_category[members]])
            popularity[members] = number + summed / weight[by_category[members]].sum()
        brand = rng.zipf(1.5, products) % BRANDS
        codes = [f"{DEPARTMENTS[c % 10]}.group{c // 10}.kind{c}" for c in range(CATEGORIES)]
        shares = 1 / np.arange(1, CATEGORIES + 1) ** 0.8
        shares = np.cumsum(rng.permutation(shares / shares.sum()))
        activity = np.cumsum(np.minimum(rng.pareto(1.3, users) + 0.05, MAX_ACTIVITY))
        return cls(
            category=category,
            by_category=by_category,
            category_begins=begins,
            popularity=popularity,
            price=np.exp(rng.normal(4.6, 1.1, products)).round(2),
            brand=pa.DictionaryArray.from_arrays(
                pa.array(brand, mask=rng.random(products) < NO_BRAND), pa.array([f"brand{b}" for b in range(BRANDS)])
            ),
            code=pa.DictionaryArray.from_arrays(
                pa.array(category, mask=rng.random(products) < NO_CODE), pa.array(codes)
            ),
            first_day=rng.integers(0, DAYS, users).astype(np.int8),
            activity=activity / activity[-1],
            favourites=np.searchsorted(shares, rng.random((users, FAVOURITES)))
            .clip(0, CATEGORIES - 1)
            .astype(np.uint8),
            category_activity=shares,
        )

    def day(self, day: int, events: int, seed: int) -> pa.Table:
        """Returns the events of one day, ordered by time."""
        rng = np.random.default_rng([seed, 1, day])
        new_users = np.flatnonzero(self.first_day == day)
        if not events:
            new_users = new_users[:0]
        lengths = rng.geometric(1 / EVENTS_PER_SESSION, 2 * int(events / EVENTS_PER_SESSION) + len(new_users) + 10)
        lengths = np.minimum(lengths, 200)
        sessions = int(np.searchsorted(np.cumsum(lengths), events)) + 1
        session = np.repeat(np.arange(sessions), lengths[:sessions])[:events]
        others = np.searchsorted(self.activity, rng.random(max(sessions - len(new_users), 0)))
        user = np.concatenate([new_users, others])[:sessions].clip(0, len(self.activity) - 1)

        product = self._products(rng, session, self._categories(rng, user))
        kind = np.searchsorted(np.cumsum(KIND_SHARES), rng.random(events)).clip(0, len(KINDS) - 1)
        # At least a second apart within a session: no event repeats another, and a session ends on its day.
        first = np.searchsorted(session, np.arange(sessions))
        elapsed = np.cumsum(1 + rng.exponential(90, events).astype(np.int64))
        elapsed -= elapsed[first][session] if events else 0
        longest = elapsed[np.append(first[1:], events) - 1] if events else elapsed
        start = (rng.beta(2.5, 2, sessions) * (DAY_SECONDS - 1)).astype(np.int64)
        start = np.minimum(start, DAY_SECONDS - 1 - longest) if events else start
        when = start[session] + elapsed
        order = np.argsort(when, kind="stable")
        return self._table(
            day, when[order], kind[order], product[order], user[session[order]], _names(rng, session[order], sessions)
        )

    def _categories(self, rng: np.random.Generator, user: Integers) -> Integers:
        """Returns a category for each session, mostly one that its user likes."""
        liked = self.favourites[user, rng.integers(0, FAVOURITES, len(user))].astype(np.int64)
        any_other = np.searchsorted(self.category_activity, rng.random(len(user))).clip(0, CATEGORIES - 1)
        return np.where(rng.random(len(user)) < LOYALTY, liked, any_other)

    def _products(self, rng: np.random.Generator, session: Integers, category: Integers) -> Integers:
        """Returns a product for each event, by popularity in the category of its session, or the previous product."""
        fresh = rng.random(len(session)) >= SAME_PRODUCT
        fresh[1:] |= session[1:] != session[:-1]
        fresh[:1] = True
        at = np.searchsorted(self.popularity, category[session] + rng.random(len(session)))
        # In a tiny shop, sessions in a category without products get a product of the next category.
        drawn = self.by_category[at.clip(0, len(self.by_category) - 1)]
        source = np.maximum.accumulate(np.where(fresh, np.arange(len(session)), 0))
        return np.asarray(drawn[source])

    def _table(
        self, day: int, when: Integers, kind: Integers, product: Integers, user: Integers, session: pa.Array
    ) -> pa.Table:
        midnight = int(dt.datetime.combine(FIRST_DAY, dt.time(), dt.UTC).timestamp()) + day * DAY_SECONDS
        at = pa.array(product)
        return pa.table(
            {
                "event_time": pa.array((midnight + when) * 1_000_000, pa.timestamp("us", tz="UTC")),
                "event_type": pa.DictionaryArray.from_arrays(pa.array(kind), pa.array(KINDS)).cast(pa.string()),
                "product_id": pa.array(product + 1_000_000),
                "category_id": pa.array(self.category[product] + 2_053_013_552_226_107_603),
                "category_code": self.code.take(at).cast(pa.string()),
                "brand": self.brand.take(at).cast(pa.string()),
                "price": pa.array(self.price[product]),
                "user_id": pa.array(user.astype(np.int64) + 512_000_000),
                "user_session": session,
            }
        )


def user_count(events: int) -> int:
    return max(events // EVENTS_PER_USER, 20)


def product_count(events: int) -> int:
    """Returns the number of products, which grows more slowly than the number of events."""
    return max(int(166_800 * (events / 42.4e6) ** 0.6), CATEGORIES)


def events_by_day(events: int, seed: int) -> list[int]:
    """Returns the number of events of each day, which is slightly higher at weekends."""
    rng = np.random.default_rng([seed, 2])
    weekday = np.array([(FIRST_DAY + dt.timedelta(days=d)).weekday() for d in range(DAYS)])
    shares = np.where(weekday >= 5, 1.1, 1.0) * rng.uniform(0.95, 1.05, DAYS)
    edges = np.round(np.cumsum(shares) / shares.sum() * events).astype(np.int64)
    return [int(n) for n in np.diff(edges, prepend=0)]


def _names(rng: np.random.Generator, session: Integers, sessions: int) -> pa.Array:
    """Returns ids of sessions with 36 characters, as in real logs, without a Python object per event."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.full((sessions, 36), ord("-"), np.uint8)
    text[:, [i for i in range(36) if i not in (8, 13, 18, 23)]] = digits[rng.integers(0, 16, (sessions, 32), np.uint8)]
    ends = pa.py_buffer(np.arange(0, 36 * (sessions + 1), 36, dtype=np.int32))
    names = pa.StringArray.from_buffers(sessions, ends, pa.py_buffer(text.tobytes()))
    return names.take(pa.array(session))


def generate(place: Place, events: int, seed: int = 7) -> dict[str, Any]:
    """Writes the events as daily partitions, and as hard links in one folder for the other systems; returns counts.

    Writes nothing if the folder has events with the same number and seed.
    """
    done = place.root / "events.json"
    counts = {"events": events, "seed": seed, "users": user_count(events), "products": product_count(events)}
    if done.exists() and json.loads(done.read_text()) == counts:
        return counts
    for old in (place.shop, place.export, place.root / "results"):  # they are for other events
        shutil.rmtree(old, ignore_errors=True)
    place.export.mkdir(parents=True)
    shop = Shop.of(events, seed)
    for day, count in enumerate(events_by_day(events, seed)):
        folder = place.shop / "raw" / "events" / f"event_date={FIRST_DAY + dt.timedelta(days=day)}"
        folder.mkdir(parents=True)
        file, link = folder / "part-0.parquet", place.export / f"part-{day:05d}.parquet"
        pq.write_table(shop.day(day, count, seed), file, compression="snappy", row_group_size=1_000_000)
        try:
            os.link(file, link)
        except OSError:  # not all file systems have hard links
            shutil.copy(file, link)
    done.write_text(json.dumps(counts))
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--events", type=float, required=True)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    print(json.dumps(generate(Place(options.root.resolve()), int(options.events), options.seed)))
