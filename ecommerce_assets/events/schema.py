"""The shop event: its columns, its types, its words. What counts as a bad event stands in cleaning.py."""

from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.version import PARTITION_COLUMN as PARTITION_COLUMN

EVENT_TYPES = ("view", "cart", "remove_from_cart", "purchase")

EVENTS = TableSpec.of(
    ColumnSpec("event_time", "timestamp", "When it happened, UTC.", nullable=False),
    ColumnSpec("event_type", "string", "One of view, cart, remove_from_cart, purchase.", nullable=False),
    ColumnSpec("product_id", "id", "The product.", nullable=False),
    ColumnSpec("category_id", "bigint", "The product's category; null where missing or unreadable."),
    ColumnSpec("category_code", "string", "Dotted category path such as electronics.smartphone; often null."),
    ColumnSpec("brand", "string", "The product's brand; often null."),
    ColumnSpec("price", "double", "Price in the shop's currency; zero occurs, negative is rejected.", nullable=False),
    ColumnSpec("user_id", "id", "The visitor.", nullable=False),
    ColumnSpec("user_session", "string", "The visit; null occurs and is kept."),
    ColumnSpec("event_id", "string", "Tells equal events apart: events with the same id are one. Null: not known."),
)

OPTIONAL_COLUMNS = ("user_session", "brand", "category_code", "category_id", "event_id")
"""Columns that a shop's log may lack; they become null. Any other missing column is an error."""

REQUIRED_COLUMNS = tuple(name for name in EVENTS.names if name not in OPTIONAL_COLUMNS)

REJECTED_EVENTS = TableSpec.of(
    ColumnSpec("reject_reason", "string", "The first rule that the row broke.", nullable=False),
    *(ColumnSpec(c.name, "string", f"As it came, as text. {c.description}") for c in EVENTS.columns),
    ColumnSpec("source_file", "string", "The raw file that holds the row."),
)
