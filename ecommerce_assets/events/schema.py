"""The columns of an event, and the columns of rejected_events."""

from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.version import PARTITION_COLUMN as PARTITION_COLUMN

EVENT_TYPES = ("view", "cart", "remove_from_cart", "purchase")

EVENTS = TableSpec.of(
    ColumnSpec("event_time", "timestamp", "Time of the event, UTC.", nullable=False),
    ColumnSpec("event_type", "string", "One of view, cart, remove_from_cart, purchase.", nullable=False),
    ColumnSpec("product_id", "id", "Product.", nullable=False),
    ColumnSpec("category_id", "bigint", "Category of the product; null if missing or unreadable."),
    ColumnSpec("category_code", "string", "Dotted category path such as electronics.smartphone; often null."),
    ColumnSpec("brand", "string", "Brand of the product; often null."),
    ColumnSpec("price", "double", "Price in the shop's currency, at least 0.", nullable=False),
    ColumnSpec("user_id", "id", "User.", nullable=False),
    ColumnSpec("user_session", "string", "Session of the user; can be null."),
    ColumnSpec("event_id", "string", "Id of the event: events of a day with the same id are one event. Can be null."),
)

OPTIONAL_COLUMNS = ("user_session", "brand", "category_code", "category_id", "event_id")
"""Columns that may be missing in raw files; they become null. Any other missing column is an error."""

REQUIRED_COLUMNS = tuple(name for name in EVENTS.names if name not in OPTIONAL_COLUMNS)

REJECTED_EVENTS = TableSpec.of(
    ColumnSpec("reject_reason", "string", "First rule that the event broke.", nullable=False),
    *(ColumnSpec(c.name, "string", f"Original value as text. {c.description}") for c in EVENTS.columns),
    ColumnSpec("source_file", "string", "Raw file of the event."),
)
