"""The shop behind the shipped sample: its catalogue, its visitors, and what they view, put in the cart and buy.

Belongs here: whom and what there is, and how people behave, drawn at random. Does not belong here: days, files, and the
oddities of real logs, which sample.py adds.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Columns = dict[str, Array]
"""Columns of events by name: arrays of objects, so that any value may become None."""

DAY = 86_400
FULL_LENGTH = 90

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
        """Each visitor's value of a field of Persona."""
        return np.array([getattr(p, name) for p in PERSONAS])[self.persona]


@dataclass(frozen=True)
class Visits:
    """Who comes, when, and for which category."""

    user: Array
    start: Array  # seconds since the first day
    category: Array
    to_favourite: Array


def zipf(n: int, exponent: float) -> Array:
    """(n,) shares that fall with the rank to the power of `exponent`, and add up to 1."""
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
    """(n,) session ids."""
    return np.array([str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(n)], object)


def as_events(
    catalogue: Catalogue, at: Array, event_type: Array, product: Array, user_id: Array, session: Array
) -> Columns:
    """Columns of events: `at` in seconds since the first day, `product` as rows of the catalogue."""
    columns = {"event_time": at, "event_type": event_type, "user_id": user_id, "user_session": session}
    columns |= {name: values[product] for name, values in catalogue.columns.items()}
    return {name: values.astype(object) for name, values in columns.items()}
