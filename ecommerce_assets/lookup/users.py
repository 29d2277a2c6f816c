"""Looks up one user: segment, recommendations and newest events. `find_user` is the entry point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ecommerce_assets.env_file import RUN
from ecommerce_assets.lookup.tables import Row, Tables, UnknownIdError, parse_stored_id, source_days, utc, version_times
from ecommerce_assets.recommendation.recommenders.popularity import Popularity, SegmentPopularity
from ecommerce_assets.storage.lake import Day, Lake, VersionNotFoundError
from ecommerce_assets.storage.version import Version

MAX_EVENTS = 10
"""Maximum number of events in the history of a user."""

_FALLBACK_SOURCES = {SegmentPopularity.source, Popularity.source}


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
        event_time (UTC), event_type, product_id, name, category, brand, price; newest first, at most `MAX_EVENTS`.
    days
        First and last day of the events that the recommendations were made from.
    newest_day
        The newest day of cleaned_events; None without events.
    versions
        version and committed_at of each table, by asset.
    notes
        One sentence for each table that is missing or in another version, and for a list that has no model.
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
    """Returns the newest recommendations and events of a user, and the segment that the recommendations were made with.

    Raises UnknownIdError if none of these tables has the id.
    """
    tables = Tables(lake)
    lists = tables.newest("recommendations")
    users = tables.ancestor(lists, "segmented_users")
    product_table = tables.product_table(lists)
    days = _days(tables)
    user_id = parse_stored_id(text, "user_id", [users, lists, *(day.version for day in days[-1:])])
    times = f"{utc('first_event_time')}, {utc('last_event_time')}"
    features = tables.row(users, f"select * replace ({times}) from {{table}} where user_id = ?", user_id)
    recommended = tables.rows(lists, "select * from {table} where user_id = ? order by rank", user_id)
    events = _newest_events(tables, _days_to_search(lake, days, users, features), user_id)
    if features is None and not recommended and not events:
        raise UnknownIdError(_unknown(user_id, users, days, tables.notes))
    product_ids = [row["product_id"] for row in (*recommended, *events)]
    product_ids += [row.get("because_product_id") for row in recommended]
    descriptions = tables.describe_products(product_table, product_ids)
    if users is not None and features is not None:
        features["description"] = _segment_description(users, features["segment_id"])
        features |= _customer_group(tables, users, user_id)
    return UserAnswer(
        user_id=user_id,
        features=features,
        recommendations=[_recommendation(row, descriptions) for row in recommended],
        history=[_event(row, descriptions) for row in events],
        days=source_days(lake, lists) if lists is not None else None,
        newest_day=days[-1].day if days else None,
        versions=version_times(tables.used.values()),
        notes=[*tables.notes, *_notes(lists, features, recommended)],
    )


def example_users(lake: Lake) -> list[Row]:
    """Returns user_id, segment, purchases, total_events and monetary of the five users with the most purchases."""
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


def _days_to_search(lake: Lake, days: Sequence[Day], users: Version | None, features: Row | None) -> list[Day]:
    """Returns the days on which the user may have events, newest first.

    The features have the times of the user's first and last event. A day that the features were made from, and that did
    not change since, is searched only if it is between these two; without features it is not searched.
    """
    number = users.input_version("user_features") if users is not None else None
    user_features = lake.recorded("user_features", number) if number else None
    read_versions = {
        day: int(each.version)
        for each in (user_features.inputs if user_features is not None else ())
        if each.asset == "cleaned_events" and each.version
        for day in each.partitions
    }
    unchanged = {day.day for day in days if int(day.version.version) <= read_versions.get(day.day, -1)}
    first, last = "", ""
    if features is not None:
        times = [features["first_event_time"], features["last_event_time"]]
        first, last = [f"{time:%Y-%m-%d}" for time in times] if None not in times else ("", "9999")
    return [day for day in reversed(days) if day.day not in unchanged or first <= day.day <= last]


def _newest_events(tables: Tables, days: Sequence[Day], user_id: int | str) -> list[Row]:
    """Returns the newest events. It reads twice as many days with each query, until there are `MAX_EVENTS` events."""
    events: list[Row] = []
    start, count = 0, 1
    while start < len(days) and len(events) < MAX_EVENTS:
        chosen = days[start : start + count]
        events += tables.rows_of_files(
            chosen[0].version,
            [file.path for day in chosen for file in day.files],
            f"select {utc('event_time')}, event_type, product_id, category_code, brand, price from {{table}} "
            "where user_id = ? order by event_time desc, product_id, event_type limit ?",
            user_id,
            MAX_EVENTS - len(events),
        )
        start, count = start + count, count * 2
    return events


def _recommendation(row: Row, descriptions: dict[int | str, Row]) -> Row:
    product = descriptions.get(row["product_id"], {})
    because = row.get("because_product_id")  # earlier releases lack it
    return {
        "rank": row["rank"],
        "product_id": row["product_id"],
        **{name: product.get(name) for name in ("name", "category", "brand", "price")},
        "score": row["score"],
        "source": row["source"],
        "because_product_id": because,
        "because_name": descriptions.get(because, {}).get("name") if because is not None else None,
    }


def _event(row: Row, descriptions: dict[int | str, Row]) -> Row:
    """Returns the event; a missing category or brand is that of the product."""
    product = descriptions.get(row["product_id"], {})
    return {
        "event_time": row["event_time"],
        "event_type": row["event_type"],
        "product_id": row["product_id"],
        "name": product.get("name"),
        "category": row["category_code"] or product.get("category"),
        "brand": row["brand"] or product.get("brand"),
        "price": row["price"],
    }


def _customer_group(tables: Tables, users: Version, user_id: int | str) -> Row:
    groups = tables.with_same_events(users, "customer_groups")
    sql = "select customer_group, r_score, f_score, m_score from {table} where user_id = ?"
    return tables.row(groups, sql, user_id) or {}


def _segment_description(users: Version, segment_id: int) -> str | None:
    segments = users.stats.results.get("segments", ())
    return next((segment.get("description") for segment in segments if segment["segment_id"] == segment_id), None)


def _notes(lists: Version | None, features: Row | None, recommended: Sequence[Row]) -> list[str]:
    if lists is None:
        return []
    if not recommended and features is not None:
        return ["No recommendations: no product is eligible for this user."]
    if not recommended:
        made = f"{lists.committed_at:%Y-%m-%d %H:%M} UTC"
        return [f"The user has no events before the recommendations were made ({made}): run the assets again."]
    if {row["source"] for row in recommended} <= _FALLBACK_SOURCES:
        return ["The list has only popular products, of the segment or of the shop."]
    return []


def _unknown(user_id: int | str, users: Version | None, days: Sequence[Day], notes: Sequence[str]) -> str:
    if users is None and not days:
        return " ".join(notes)
    searched = [f"the {users.stats.rows:,} users of segmented_users {users.version}"] if users is not None else []
    searched += [f"cleaned_events from {days[0].day} to {days[-1].day}"] if days else []
    return (
        f"Unknown user {user_id}: not in {' or '.join(searched)}. "
        f"List known users with: {RUN}ecommerce-assets lookup user"
    )
