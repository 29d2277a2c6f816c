"""Simulates the shop of the shipped sample: its catalogue, its visitors, and their views, carts and purchases.

sample.py turns the events into daily files and adds irregular values.
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
"""Columns of events by name, as arrays of objects, which can contain None."""

DAY = 86_400
FULL_LENGTH = 90

# Median prices, the most visited categories first. Prices are close together on purpose: with those of a real shop,
# k-means would separate visitors by the price of what they viewed and not by their behaviour.
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
# A visitor prefers the same style in every category. The first part of a brand is its style.
STYLES = ("plain", "bright", "quiet", "grand")
STYLE_PRICE = np.array([0.8, 0.95, 1.05, 1.3])
STYLE_SHARE = np.array([0.34, 0.28, 0.22, 0.16])
BRAND_WORDS = ("heron", "otter", "maple", "pebble", "lantern", "meadow", "harbor", "thimble")
HOUR_SHARE = np.array([2, 3, 5, 8, 11, 12, 13, 13, 13, 12, 12, 12, 12, 13, 15, 17, 17, 15, 12, 8, 5, 4, 3, 2]) / 239


class Persona(NamedTuple):
    """Behaviour of one kind of visitor. Means are for a sample of 90 days."""

    share: float  # of all visitors
    arrival: tuple[float, float]  # parameters of the Beta distribution of the first day
    stays: float  # share of the remaining days in which they may return
    visits: float  # mean number
    views: float  # per visit
    buys: float  # purchases per view
    abandons: float  # carts without a purchase per view
    fidelity: float  # share of visits to a favourite category


PERSONAS = (
    Persona(0.30, (1.2, 7.0), 0.1, 1.2, 1.9, 0.003, 0.004, 0.7),  # visits once, in the first weeks
    Persona(0.31, (7.0, 1.5), 0.3, 1.3, 1.9, 0.003, 0.004, 0.7),  # visits once, before the holidays
    Persona(0.16, (2.5, 2.0), 0.6, 3.0, 3.5, 0.004, 0.010, 0.8),  # browses occasionally
    Persona(0.07, (7.0, 1.5), 0.6, 1.6, 1.8, 0.550, 0.010, 0.8),  # buys one product
    Persona(0.11, (1.0, 5.0), 1.0, 10.0, 3.7, 0.030, 0.020, 0.7),  # visits regularly
    Persona(0.05, (1.0, 9.0), 1.0, 25.0, 4.6, 0.065, 0.070, 0.7),  # visits and buys often
)
TRUE_TO_STYLE = 0.7
BACK_TO_SHORTLIST = 0.1
CART_BEFORE_PURCHASE = 0.19
REMOVED_OF_ABANDONED = 0.45
PURCHASE_BEFORE_VIEW = 0.08
BOT_USER, BOT_SHARE, BOT_DAYS, BOT_PRODUCTS = 599_999_999, 0.042, 12, 48


@dataclass(frozen=True)
class Catalogue:
    """The products, sorted by category and style, so that each combination is one range of rows."""

    columns: Columns
    cumulative: Array  # cumulative popularity, from 0
    edges: Array  # first row of each category and style

    def draw(self, rng: np.random.Generator, category: Array, style: Array) -> Array:
        """Returns one random product per row, weighted by popularity; style -1 means any style."""
        first = category * len(STYLES)
        low = self.edges[first + np.maximum(style, 0)]
        high = self.edges[first + np.where(style < 0, len(STYLES), style + 1)]
        return draw_range(rng, self.cumulative, low, high)


@dataclass(frozen=True)
class Visitors:
    """The visitors, one per row."""

    user_id: Array
    persona: Array
    first_day: Array
    last_day: Array
    favourites: Array  # three categories
    style: Array
    shortlist: Array  # six products that they view repeatedly

    def trait(self, name: str) -> Array:
        """Returns the value of a field of `Persona` for each visitor."""
        return np.array([getattr(p, name) for p in PERSONAS])[self.persona]


@dataclass(frozen=True)
class Visits:
    """The visits, one per row."""

    user: Array  # row of the visitor
    start: Array  # seconds since the first day
    category: Array
    to_favourite: Array


def zipf(n: int, exponent: float) -> Array:
    """Returns n shares, proportional to 1 / rank ** exponent, with the sum 1."""
    weights = 1 / np.arange(1, n + 1) ** exponent
    share: Array = weights / weights.sum()
    return share


CATEGORY_SHARE = zipf(len(CATEGORY_CODES), 0.5)


def draw_range(rng: np.random.Generator, cumulative: Array, low: Array, high: Array) -> Array:
    """Returns one random index from `low` to `high - 1` per row, by the cumulative weights of all indices."""
    at = cumulative[low] + rng.random(len(low)) * (cumulative[high] - cumulative[low])
    drawn: Array = np.clip(np.searchsorted(cumulative, at, side="right") - 1, low, high - 1)
    return drawn


def make_catalogue(rng: np.random.Generator, n: int) -> Catalogue:
    """Returns n products with a Zipf popularity and a fixed price, at least one for each category and style."""
    kinds = len(CATEGORY_CODES) * len(STYLES)
    kind = np.sort(np.concatenate([np.arange(kinds), rng.integers(0, kinds, max(n - kinds, 0))]))
    n, category, style = len(kind), kind // len(STYLES), kind % len(STYLES)
    popularity = rng.permutation(zipf(n, 0.85))
    views = popularity * (CATEGORY_SHARE / np.bincount(category, popularity))[category]

    def without(share: float, values: Array) -> Array:
        """Sets values of random products with about this share of the views to None."""
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
    """Returns the mean number of visits of a persona, which is smaller in a shorter sample."""
    return 1 + (persona.visits - 1) * min(days / FULL_LENGTH, 1)


def count_visitors(events: int, days: int) -> int:
    """Returns the number of visitors that make about this number of events."""
    per_visitor = 0.0
    for p in PERSONAS:
        actions = p.buys * (1 + CART_BEFORE_PURCHASE) + p.abandons * (1 + REMOVED_OF_ABANDONED)
        per_visitor += p.share * mean_visits(p, days) * p.views * (1 + actions)
    return max(2, round(events * (1 - BOT_SHARE) / per_visitor))


def make_favourites(rng: np.random.Generator, n: int) -> Array:
    """Returns three categories per visitor; the second and third are mostly in the department of the first."""
    related = (CATEGORY_DEPARTMENT[:, None] == CATEGORY_DEPARTMENT) * CATEGORY_SHARE
    chance = 0.6 * related / related.sum(axis=1, keepdims=True) + 0.4 * CATEGORY_SHARE
    first = rng.choice(len(CATEGORY_CODES), n, p=CATEGORY_SHARE)
    below = chance.cumsum(axis=1)[first, :-1]
    return np.stack([first, *((rng.random((n, 1)) > below).sum(axis=1) for _ in range(2))], axis=1)


def make_visitors(rng: np.random.Generator, n: int, days: int, catalogue: Catalogue) -> Visitors:
    """Returns n visitors with a persona, first and last day, favourite categories and a style."""
    # Exact shares instead of random ones: the few frequent visitors make half of the events.
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


def make_visits(rng: np.random.Generator, visitors: Visitors, first_day: date, days: int) -> Visits:
    """Returns visits with more traffic at weekends and in a sale in mid-November, mostly to a favourite category."""
    mean = np.array([mean_visits(p, days) for p in PERSONAS])[visitors.persona]
    user = np.repeat(np.arange(len(mean)), 1 + rng.poisson((mean - 1) * rng.gamma(5.0, 0.2, len(mean))))
    n = len(user)
    dates = [first_day + timedelta(days=i) for i in range(days)]
    weekend = np.array([1.2 if d.weekday() >= 5 else 1.0 for d in dates])
    sale = np.array([1.6 if d.month == 11 and 14 <= d.day <= 18 else 1.0 for d in dates])
    cumulative = np.append(0.0, np.cumsum(weekend * sale))
    day = draw_range(rng, cumulative, visitors.first_day[user], visitors.last_day[user] + 1)
    start = day * DAY + rng.choice(24, n, p=HOUR_SHARE) * 3600 + rng.integers(0, 3600, n)
    to_favourite = rng.random(n) < visitors.trait("fidelity")[user]
    favourite = visitors.favourites[user, rng.choice(3, n, p=[0.5, 0.3, 0.2])]
    anything = rng.choice(len(CATEGORY_CODES), n, p=CATEGORY_SHARE)
    return Visits(user, start, np.where(to_favourite, favourite, anything), to_favourite)


def make_shopping(rng: np.random.Generator, visitors: Visitors, visits: Visits, catalogue: Catalogue) -> Columns:
    """Returns the events of the visits: views, carts, removals and purchases."""
    views = rng.geometric(1 / visitors.trait("views")[visits.user])
    visit = np.repeat(np.arange(len(views)), views)
    user, n = visits.user[visit], len(visit)
    true_to_style = visits.to_favourite[visit] & (rng.random(n) < TRUE_TO_STYLE)
    again = visits.to_favourite[visit] & (rng.random(n) < BACK_TO_SHORTLIST)
    product = catalogue.draw(rng, visits.category[visit], np.where(true_to_style, visitors.style[user], -1))
    product = np.where(again, visitors.shortlist[user, rng.integers(0, 6, n)], product)
    elapsed = np.cumsum(5 + rng.exponential(70, n).astype(int))
    seen_at = visits.start[visit] + elapsed - np.repeat(elapsed[np.cumsum(views) - views], views)

    bought = rng.random(n) < visitors.trait("buys")[user]
    kept = bought & (rng.random(n) < CART_BEFORE_PURCHASE)
    abandoned = ~bought & (rng.random(n) < visitors.trait("abandons")[user])
    removed = abandoned & (rng.random(n) < REMOVED_OF_ABANDONED)
    early = bought & (rng.random(n) < PURCHASE_BEFORE_VIEW)  # occurs in real logs
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
    return as_events(catalogue, event_time, event_type, product[row], visitors.user_id[user[row]], session)


def make_bot(rng: np.random.Generator, n: int, catalogue: Catalogue, days: int) -> Columns:
    """Returns n views of a bot that views the same few products for some days and never buys.

    A bot that viewed all products would become a segment of its own.
    """
    active = min(BOT_DAYS, days)
    day = np.arange(n) * active // max(n, 1)
    event_time = ((days - active) * 2 // 3 + day) * DAY + 3600 + np.sort(rng.integers(0, 20 * 3600, n))
    product = rng.integers(0, len(catalogue.cumulative) - BOT_PRODUCTS) + np.arange(n) % BOT_PRODUCTS
    session = new_sessions(rng, active)[day]
    return as_events(catalogue, event_time, np.full(n, "view", object), product, np.full(n, BOT_USER), session)


def new_sessions(rng: np.random.Generator, n: int) -> Array:
    """Returns n session ids."""
    return np.array([str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(n)], object)


def as_events(
    catalogue: Catalogue, at: Array, event_type: Array, product: Array, user_id: Array, session: Array
) -> Columns:
    """Returns columns of events; `at` is in seconds since the first day, `product` are rows of the catalogue."""
    columns = {"event_time": at, "event_type": event_type, "user_id": user_id, "user_session": session}
    columns |= {name: values[product] for name, values in catalogue.columns.items()}
    return {name: values.astype(object) for name, values in columns.items()}
