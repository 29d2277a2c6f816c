"""What is known of one user: segment, recommendations, the newest events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ecommerce_assets.env_file import RUN
from ecommerce_assets.lookup.tables import Row, Tables, UnknownIdError, source_days, typed, utc, versions
from ecommerce_assets.recommendation.recommenders.popularity import Popularity, SegmentPopularity
from ecommerce_assets.storage.lake import Day, Lake, VersionNotFoundError
from ecommerce_assets.storage.version import Version

EVENTS_SHOWN = 10

_POPULAR = {SegmentPopularity.source, Popularity.source}
_ONLY_POPULAR = "The list has only products that are popular in the segment or in the shop."


@dataclass(frozen=True)
class UserAnswer:
    """One user.

    Attributes
    ----------
    features
        The user's row of segmented_users, `description` (of the segment), and customer_group and the scores if
        customer_groups is published; None if segmented_users does not have the user.
    recommendations
        rank, product_id, name, category, brand, price, score, source, because_product_id, because_name; by rank.
    history
        event_time (UTC), event_type, product_id, name, category, brand, price; newest first.
    days
        First and last day of the events that the recommendations were made from.
    newest_day
        The newest day that was searched for events; None without events.
    versions
        version and committed_at of each table, by asset.
    notes
        One sentence for each table that is missing or in another version, and for each list that has no model.
    """

    user_id: int | str
    features: Row | None
    recommendations: list[Row]
    history: list[Row]
    days: tuple[str, str] | None
    newest_day: str | None
    versions: dict[str, Row] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_user(lake: Lake, text: str) -> UserAnswer:
    """All about the user with this id.

    The recommendations are the newest, segment and products those that they were made with, the events the newest of
    all. Raises UnknownIdError where no table knows the id.
    """
    tables = Tables(lake)
    lists = tables.newest("recommendations")
    users = tables.behind(lists, "segmented_users")
    products = tables.about_products(lists)
    days = _days(tables)
    user_id = typed(text, "user_id", [users, lists, *(day.version for day in days[-1:])])
    times = f"{utc('first_event_time')}, {utc('last_event_time')}"
    sql = f"select * replace ({times}) from {{table}} where user_id = ?"
    features = next(iter(tables.rows(users, sql, user_id)), None)
    sql = "select * from {table} where user_id = ? order by rank"
    recommended = tables.rows(lists, sql, user_id)
    events = _history(tables, _worth_a_look(lake, days, users, features), user_id)
    if features is None and not recommended and not events:
        raise UnknownIdError(_unknown(user_id, users, days, tables.notes))
    shown = [row["product_id"] for row in (*recommended, *events)]
    known = tables.products(products, [*shown, *(row.get("because_product_id") for row in recommended)])
    if users is not None and features is not None:
        features = {
            **features,
            "description": _in_words(users, features["segment_id"]),
            **_group(tables, users, user_id),
        }
    return UserAnswer(
        user_id=user_id,
        features=features,
        recommendations=[_with_product(row, known) for row in recommended],
        history=[_as_event(row, known) for row in events],
        days=source_days(lake, lists) if lists is not None else None,
        newest_day=days[-1].day if days else None,
        versions=versions(tables.used.values()),
        notes=[*tables.notes, *_remarks(lists, features, recommended)],
    )


def example_users(lake: Lake) -> list[Row]:
    """The five users with the most purchases: user_id, segment, purchases, total_events, monetary."""
    tables = Tables(lake)
    users = tables.newest("segmented_users")
    if users is None:
        raise VersionNotFoundError(tables.notes[-1])
    columns = "user_id, segment, purchases, total_events, monetary"
    return tables.rows(
        users, f"select {columns} from {{table}} order by purchases desc nulls last, monetary desc, user_id limit 5"
    )


def _days(tables: Tables) -> list[Day]:
    try:
        return tables.lake.days("cleaned_events")
    except VersionNotFoundError as error:
        tables.notes.append(str(error))
        return []


def _worth_a_look(lake: Lake, days: Sequence[Day], users: Version | None, features: Row | None) -> list[Day]:
    """The days on which the user may have events, newest first.

    The features have the user's first and last event: of the days that they were made from, unchanged since, all others
    are left out, and all of them where the user has no features.
    """
    number = users.input_version("user_features") if users is not None else None
    made_from = lake.recorded("user_features", number) if number else None
    read = {
        day: int(step.version)
        for step in (made_from.inputs if made_from is not None else ())
        if step.asset == "cleaned_events" and step.version
        for day in step.partitions
    }
    known = {day.day for day in days if int(day.version.version) <= read.get(day.day, -1)}
    first, last = "", ""
    if features is not None:
        times = [features["first_event_time"], features["last_event_time"]]
        first, last = [f"{time:%Y-%m-%d}" for time in times] if None not in times else ("", "9999")
    return [day for day in reversed(days) if day.day not in known or first <= day.day <= last]


def _history(tables: Tables, days: Sequence[Day], user_id: int | str) -> list[Row]:
    """The newest events, from ever more days at a time until there are enough."""
    events: list[Row] = []
    start, count = 0, 1
    while start < len(days) and len(events) < EVENTS_SHOWN:
        chosen = days[start : start + count]
        events += tables.rows_of(
            chosen[0].version,
            [file.path for day in chosen for file in day.files],
            f"select {utc('event_time')}, event_type, product_id, category_code, brand, price from {{table}} "
            "where user_id = ? order by event_time desc, product_id, event_type limit ?",
            user_id,
            EVENTS_SHOWN - len(events),
        )
        start, count = start + count, count * 2
    return events


def _with_product(row: Row, known: dict[int | str, Row]) -> Row:
    product, because = known.get(row["product_id"], {}), row.get("because_product_id")  # earlier versions lack it
    return {
        "rank": row["rank"],
        "product_id": row["product_id"],
        **{name: product.get(name) for name in ("name", "category", "brand", "price")},
        "score": row["score"],
        "source": row["source"],
        "because_product_id": because,
        "because_name": known.get(because, {}).get("name") if because is not None else None,
    }


def _as_event(row: Row, known: dict[int | str, Row]) -> Row:
    """Returns the event; a missing category or brand is that of the product."""
    product = known.get(row["product_id"], {})
    return {
        "event_time": row["event_time"],
        "event_type": row["event_type"],
        "product_id": row["product_id"],
        "name": product.get("name"),
        "category": row["category_code"] or product.get("category"),
        "brand": row["brand"] or product.get("brand"),
        "price": row["price"],
    }


def _group(tables: Tables, users: Version, user_id: int | str) -> Row:
    groups = tables.beside(users, "customer_groups")
    sql = "select customer_group, r_score, f_score, m_score from {table} where user_id = ?"
    return next(iter(tables.rows(groups, sql, user_id)), {})


def _in_words(users: Version, segment_id: int) -> str | None:
    segments = users.stats.results.get("segments", ())
    return next((segment.get("description") for segment in segments if segment["segment_id"] == segment_id), None)


def _remarks(lists: Version | None, features: Row | None, recommended: Sequence[Row]) -> list[str]:
    if lists is None:
        return []
    if not recommended and features is not None:
        return ["There is no product that could be recommended to this user."]
    if not recommended:
        at = f"{lists.committed_at:%Y-%m-%d %H:%M} UTC"
        return [f"Came after the recommendations were made ({at}): the next run has a list for this user."]
    return [_ONLY_POPULAR] if {row["source"] for row in recommended} <= _POPULAR else []


def _unknown(user_id: int | str, users: Version | None, days: Sequence[Day], notes: Sequence[str]) -> str:
    if users is None and not days:
        return " ".join(notes)
    among = f" among the {users.stats.rows:,} users of segmented_users {users.version}" if users is not None else ""
    events = f" in cleaned_events from {days[0].day} to {days[-1].day}" if days else ""
    return (
        f"There is no user {user_id}{among}{' nor' if among and events else ''}{events}: "
        f"`{RUN}ecommerce-assets lookup user` without an id lists some."
    )
