"""Answers for people: a few lines and tables of text. In a pipe they are plain, and as wide as they must be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TextIO

from rich.console import Console, JustifyMethod
from rich.table import Table

from ecommerce_assets.env_file import RUN
from ecommerce_assets.lookup.products import ProductAnswer
from ecommerce_assets.lookup.tables import Row
from ecommerce_assets.lookup.users import UserAnswer

_PIPE_WIDTH = 10_000
"""In a pipe nothing is wrapped or cut off."""

_NUMBERS = {
    "#",
    "price",
    "score",
    "similarity",
    "baskets",
    "confidence",
    "lift",
    "events",
    "purchases",
    "views",
    "spent",
}
_WORDS = {"name", "category", "brand", "source", "segment", "because of"}
"""Columns that are wrapped if a terminal is too narrow; numbers, times and ids stay whole as long as possible."""


def print_user(answer: UserAnswer, out: TextIO) -> None:
    """Segment, recommendations, the newest events, and which versions they come from."""
    with _console(out) as console:
        _title(console, f"User {answer.user_id}")
        if answer.features is not None:
            _user_features(console, answer.features)
        if answer.recommendations:
            _title(console, "\nRecommendations")
            reasons = [r["because_name"] or r["because_product_id"] for r in answer.recommendations]
            shown = any(reason is not None for reason in reasons)
            _table(
                console,
                [
                    "#",
                    "product",
                    "name",
                    "category",
                    "brand",
                    "price",
                    "score",
                    "source",
                    *(["because of"] if shown else []),
                ],
                [
                    (
                        r["rank"],
                        *_product(r),
                        _money(r["price"]),
                        _score(r["score"]),
                        r["source"],
                        *([reason] if shown else []),
                    )
                    for r, reason in zip(answer.recommendations, reasons, strict=True)
                ],
            )
        if answer.history:
            _title(console, f"\nNewest events (UTC, up to {answer.newest_day})")
            _table(
                console,
                ["time", "event", "product", "name", "category", "brand", "price"],
                [(_time(e["event_time"]), e["event_type"], *_product(e), _money(e["price"])) for e in answer.history],
            )
        _end(console, answer, "recommendations")


def _score(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.2g}"


def print_product(answer: ProductAnswer, out: TextIO) -> None:
    """The product, its neighbours, and which versions they come from."""
    with _console(out) as console:
        _title(console, f"Product {answer.product_id}" + (f": {_clean(answer.name)}" if answer.name else ""))
        if answer.features is not None:
            f = answer.features
            _lines(
                console,
                [
                    ("category", f["category"]),
                    ("brand", f["brand"]),
                    ("price", _money(f["avg_price"])),
                    ("events", _counts(f, ("total_views", "total_carts", "total_purchases"))),
                    ("users", _number(f["unique_users"])),
                    ("revenue", _money(f["revenue"])),
                ],
            )
        if answer.neighbours:
            _title(console, "\nSimilar products")
            _table(
                console,
                ["#", "product", "name", "category", "brand", "price", "similarity"],
                [(n["rank"], *_product(n), _money(n["price"]), f"{n['similarity']:.3f}") for n in answer.neighbours],
            )
        for title, pairs in (("Bought together", answer.bought_together), ("Viewed together", answer.viewed_together)):
            if pairs:
                _title(console, f"\n{title}")
                _table(
                    console,
                    ["#", "product", "name", "category", "brand", "price", "baskets", "confidence", "lift"],
                    [
                        (
                            p["rank"],
                            *_product(p),
                            _money(p["price"]),
                            _number(p["baskets"]),
                            f"{p['confidence']:.3f}",
                            f"{p['lift']:.2f}",
                        )
                        for p in pairs
                    ],
                )
        _end(console, answer, "similar_products")


def print_example_users(rows: Sequence[Row], out: TextIO) -> None:
    """A few users to begin with."""
    with _console(out) as console:
        _title(console, "Users with the most purchases")
        _table(
            console,
            ["user", "segment", "purchases", "events", "spent"],
            [
                (r["user_id"], r["segment"], _number(r["purchases"]), _number(r["total_events"]), _money(r["monetary"]))
                for r in rows
            ],
        )
        console.print(f"\nLook one up: {RUN}ecommerce-assets lookup user ID")


def print_example_products(rows: Sequence[Row], out: TextIO) -> None:
    """A few products to begin with."""
    with _console(out) as console:
        _title(console, "Products with the most purchases")
        _table(
            console,
            ["product", "name", "category", "brand", "purchases", "views", "price"],
            [
                (*_product(r), _number(r["total_purchases"]), _number(r["total_views"]), _money(r["avg_price"]))
                for r in rows
            ],
        )
        console.print(f"\nLook one up: {RUN}ecommerce-assets lookup product ID")


@contextmanager
def _console(out: TextIO) -> Iterator[Console]:
    # Brands are text from the data: nothing in them is markup, an emoji or a number to colour.
    width = None if out.isatty() else _PIPE_WIDTH
    console = Console(file=out, width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        yield console
    out.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())  # tables pad their cells


def _user_features(console: Console, f: Row) -> None:
    last = "" if f["last_event_time"] is None else f"{_time(f['last_event_time'])} UTC"
    _lines(
        console,
        [
            ("segment", f["segment"]),
            ("", f["description"]),
            *([("group", _group(f))] if f.get("customer_group") else []),
            ("last seen", last),
            ("active on", f"{f['frequency']:,.0f} day{'' if f['frequency'] == 1 else 's'}"),
            ("events", _counts(f, ("views", "carts", "purchases"))),
            ("spent", _money(f["monetary"])),
            ("mean price", _money(f["avg_price"])),
        ],
    )


def _group(f: Row) -> str:
    scores = "" if f["r_score"] is None else f" (r {f['r_score']}, f {f['f_score']}, m {f['m_score']})"
    return f"{f['customer_group']}{scores}"


def _end(console: Console, answer: UserAnswer | ProductAnswer, asset: str) -> None:
    if asset in answer.versions:
        made = answer.versions[asset]
        days = f" from events of {answer.days[0]} to {answer.days[1]}" if answer.days else ""
        console.print(f"\n{asset} {made['version']}, made {_time(made['committed_at'])} UTC{days}", style="dim")
    for note in answer.notes:
        console.print(f"Note: {note}")


def _title(console: Console, text: str) -> None:
    console.print(text, style="bold")


def _lines(console: Console, pairs: Sequence[tuple[str, str | None]]) -> None:
    """One line for each pair that has a value."""
    grid = Table.grid(padding=(0, 2))
    for label, value in pairs:
        if value:
            grid.add_row(label, _clean(value))
    console.print(grid)


def _table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    if "name" in columns and not any(row[columns.index("name")] for row in rows):  # without a catalogue
        place = columns.index("name")
        columns, rows = [*columns[:place], *columns[place + 1 :]], [(*row[:place], *row[place + 1 :]) for row in rows]
    for name in columns:
        justify: JustifyMethod = "right" if name in _NUMBERS else "left"
        table.add_column(name, justify=justify, no_wrap=name not in _WORDS, overflow="fold")
    for row in rows:
        table.add_row(*[_clean(cell) for cell in row])
    console.print(table)


def _product(row: Row) -> tuple[Any, Any, Any, Any]:
    return row["product_id"], row.get("name"), row["category"], row["brand"]


def _counts(row: Row, names: Sequence[str]) -> str:
    known = [(row[name], name.removeprefix("total_")) for name in names if row[name] is not None]
    return ", ".join(f"{count:,} {name if count != 1 else name[:-1]}" for count, name in known)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _money(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _clean(value: Any) -> str:
    """As text without what would move a terminal's cursor; nothing for null."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "�" for c in text)
