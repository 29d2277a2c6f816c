"""Prints an answer as text: a few lines and tables. In a pipe, lines have no colours and are never wrapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from ecommerce_assets.env_file import RUN
from ecommerce_assets.lookup.products import ProductAnswer
from ecommerce_assets.lookup.tables import Row
from ecommerce_assets.lookup.users import UserAnswer

_PIPE_WIDTH = 10_000
"""Characters of a line in a pipe: more than any line has, so none is wrapped."""

_OPTIONAL = {"name", "because of"}
"""Columns that are left out if no row has a value."""

_WRAPPED = {"name", "category", "brand", "source", "segment", "because of"}
"""Columns that are wrapped first if the terminal is too narrow."""

_LEFT = _WRAPPED | {"product", "user", "time", "event"}
"""Columns that are aligned to the left; the others are numbers."""


def print_user(answer: UserAnswer, out: TextIO) -> None:
    """Prints segment, recommendations, newest events, the version of the recommendations, and notes."""
    with _console(out) as console:
        _print_title(console, f"User {answer.user_id}")
        if answer.features is not None:
            _print_user_features(console, answer.features)
        recommendations = [
            {
                **_entry(r),
                "score": _score(r["score"]),
                "source": r["source"],
                "because of": r["because_name"] or r["because_product_id"],
            }
            for r in answer.recommendations
        ]
        events = [{"time": _time(e["event_time"]), "event": e["event_type"], **_product(e)} for e in answer.history]
        _print_table(console, "\nRecommendations", recommendations)
        _print_table(console, f"\nNewest events (UTC, up to {answer.newest_day})", events)
        _print_version_and_notes(console, answer, "recommendations")


def print_product(answer: ProductAnswer, out: TextIO) -> None:
    """Prints features, similar products, pairs, the version of the similar products, and notes."""
    with _console(out) as console:
        _print_title(console, f"Product {answer.product_id}" + (f": {_printable(answer.name)}" if answer.name else ""))
        if answer.features is not None:
            f = answer.features
            _print_values(
                console,
                {
                    "category": f["category"],
                    "brand": f["brand"],
                    "price": _money(f["avg_price"]),
                    "events": _counts(f, "total_views", "total_carts", "total_purchases"),
                    "users": _number(f["unique_users"]),
                    "revenue": _money(f["revenue"]),
                },
            )
        similar = [{**_entry(n), "similarity": f"{n['similarity']:.3f}"} for n in answer.neighbours]
        _print_table(console, "\nSimilar products", similar)
        for title, pairs in (("Bought together", answer.bought_together), ("Viewed together", answer.viewed_together)):
            rows = [
                {
                    **_entry(p),
                    "baskets": _number(p["baskets"]),
                    "confidence": f"{p['confidence']:.3f}",
                    "lift": f"{p['lift']:.2f}",
                }
                for p in pairs
            ]
            _print_table(console, f"\n{title}", rows)
        _print_version_and_notes(console, answer, "similar_products")


def print_example_users(rows: Sequence[Row], out: TextIO) -> None:
    """Prints the result of `example_users`."""
    users = [
        {
            "user": r["user_id"],
            "segment": r["segment"],
            "purchases": _number(r["purchases"]),
            "events": _number(r["total_events"]),
            "spent": _money(r["monetary"]),
        }
        for r in rows
    ]
    _print_examples(out, "user", users)


def print_example_products(rows: Sequence[Row], out: TextIO) -> None:
    """Prints the result of `example_products`."""
    products = [
        {
            **_product(r),
            "purchases": _number(r["total_purchases"]),
            "views": _number(r["total_views"]),
            "price": _money(r["avg_price"]),
        }
        for r in rows
    ]
    _print_examples(out, "product", products)


def _print_examples(out: TextIO, kind: str, rows: Sequence[Row]) -> None:
    with _console(out) as console:
        _print_table(console, f"{kind.capitalize()}s with the most purchases", rows)
        console.print(f"\nLook one up: {RUN}ecommerce-assets lookup {kind} ID")


@contextmanager
def _console(out: TextIO) -> Iterator[Console]:
    # Text from the data, such as a brand, must not become markup, an emoji or a coloured number.
    width = None if out.isatty() else _PIPE_WIDTH
    console = Console(file=out, width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        yield console
    out.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())  # tables pad their cells


def _print_user_features(console: Console, f: Row) -> None:
    group = f.get("customer_group")
    if group and f["r_score"] is not None:
        group = f"{group} (r {f['r_score']}, f {f['f_score']}, m {f['m_score']})"
    _print_values(
        console,
        {
            "segment": f["segment"],
            "": f["description"],
            "group": group,
            "last seen": None if f["last_event_time"] is None else f"{_time(f['last_event_time'])} UTC",
            "active on": f"{f['frequency']:,.0f} day{'' if f['frequency'] == 1 else 's'}",
            "events": _counts(f, "views", "carts", "purchases"),
            "spent": _money(f["monetary"]),
            "mean price": _money(f["avg_price"]),
        },
    )


def _print_version_and_notes(console: Console, answer: UserAnswer | ProductAnswer, asset: str) -> None:
    if asset in answer.versions:
        version = answer.versions[asset]
        days = f" from events of {answer.days[0]} to {answer.days[1]}" if answer.days else ""
        console.print(f"\n{asset} {version['version']}, made {_time(version['committed_at'])} UTC{days}", style="dim")
    for note in answer.notes:
        console.print(f"Note: {note}")


def _print_title(console: Console, text: str) -> None:
    console.print(text, style="bold")


def _print_values(console: Console, values: Mapping[str, str | None]) -> None:
    """Prints one line for each label that has a value."""
    grid = Table.grid(padding=(0, 2))
    for label, value in values.items():
        if value:
            grid.add_row(label, _printable(value))
    console.print(grid)


def _print_table(console: Console, title: str, rows: Sequence[Row]) -> None:
    """Prints a title and a table of rows with the same columns; nothing without rows."""
    if not rows:
        return
    _print_title(console, title)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    columns = [name for name in rows[0] if name not in _OPTIONAL or any(row[name] for row in rows)]
    for name in columns:
        table.add_column(
            name, justify="left" if name in _LEFT else "right", no_wrap=name not in _WRAPPED, overflow="fold"
        )
    for row in rows:
        table.add_row(*[_printable(row[name]) for name in columns])
    console.print(table)


def _product(row: Row) -> Row:
    """Returns the cells that describe a product; price is missing if the row has none."""
    cells = {"product": row["product_id"], "name": row.get("name"), "category": row["category"], "brand": row["brand"]}
    return {**cells, "price": _money(row["price"])} if "price" in row else cells


def _entry(row: Row) -> Row:
    """Returns the cells of rank and product."""
    return {"#": row["rank"], **_product(row)}


def _counts(row: Row, *names: str) -> str:
    counts = [(row[name], name.removeprefix("total_")) for name in names if row[name] is not None]
    return ", ".join(f"{count:,} {name if count != 1 else name[:-1]}" for count, name in counts)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _money(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"


def _score(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.2g}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _printable(value: Any) -> str:
    """Returns a value as text, empty for None, without characters that control the terminal."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "�" for c in text)
