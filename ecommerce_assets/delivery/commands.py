"""The commands `ecommerce-assets deliver | audience | serve`. They start no Spark."""

from __future__ import annotations

from dataclasses import asdict

import click

from ecommerce_assets.delivery.audience import TABLES, audience_columns, output_file
from ecommerce_assets.delivery.audience import audience as customers_that_match
from ecommerce_assets.delivery.deliver import default_target
from ecommerce_assets.delivery.deliver import deliver as deliver_tables
from ecommerce_assets.lookup.tables import version_times
from ecommerce_assets.settings import DATA_DIR_HELP, load_settings
from ecommerce_assets.storage.commands import Answer, aligned, command
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.markdown import percent


@command
@click.argument("target", required=False)
def deliver(lake: Lake, target: str | None) -> Answer:
    """Deliver the newest recommendations, similar products, pairs, segments and groups to TARGET, all at once.

    TARGET is an SQLite file (shop.sqlite, shop.db, sqlite:///PATH), a PostgreSQL database
    (postgresql://HOST/DATABASE, with the password in PGPASSWORD or ~/.pgpass), or a folder of files (parquet:FOLDER,
    csv:FOLDER, jsonl:FOLDER; FOLDER is a path or a URL such as s3://bucket/shop). The default is
    ECOMMERCE_DELIVER_TO; if that is unset, the file delivered.sqlite in the data dir.

    Example: ecommerce-assets deliver postgresql://db.example.com/shop
    """
    delivery = deliver_tables(lake, target or load_settings().deliver_to or default_target(lake))
    rows = [(asset, table.version, f"{table.rows:,}") for asset, table in delivery.tables.items()]
    outcome = "Delivered to" if delivery.changed else "Nothing to do: these versions are already in"
    lines = [*aligned([("table", "version", "rows"), *rows], numbers=(2,)), f"{outcome} {delivery.target}"]
    return {**delivery.document(), "changed": delivery.changed}, lines, 0


@command
@click.argument("where", required=False)
@click.option(
    "--to", metavar="FILE", help="Path or URL that ends in .csv, .parquet or .jsonl. Without it, or with -, only count."
)
@click.option("--columns", is_flag=True, help="List the columns and functions that WHERE can use.")
def audience(lake: Lake, where: str | None, to: str | None, columns: bool) -> Answer:
    """Count the customers that match WHERE, and write them with their scores and reasons to a file.

    WHERE is an SQL expression over the features, segments, groups and predicted values of customers. Its functions
    interest_in_product(ID) and interest_in_category('NAME') are the predicted interest, about 0 to 1.

    \b
    Examples:
      ecommerce-assets audience --columns
      ecommerce-assets audience "segment = 'VIP_Customers' and recency > 14"
      ecommerce-assets audience "group = 'At Risk' and monetary > 200" --to audience.csv
      ecommerce-assets audience "interest_in_category('electronics') > 0.3" --to s3://bucket/audience.parquet
    """
    if columns:
        listed = audience_columns(lake)
        rows = [("column", "table", "type", "description"), *((c.name, c.table, c.type, c.description) for c in listed)]
        missing = [table for table in TABLES if table not in {column.table for column in listed}]
        absent = [f"Not published: {', '.join(missing)}"] if missing else []
        return [asdict(column) for column in listed], [*aligned(rows), *absent], 0
    if where is None or not where.strip():
        raise click.UsageError(
            'WHERE is missing. Add a condition such as "monetary > 200"; --columns lists the columns.'
        )
    file = output_file(to) if to not in (None, "-") else None
    with customers_that_match(lake, where) as customers:
        share = percent(customers.count / customers.users) if customers.users else "no users"
        if not click.get_current_context().params["as_json"]:
            click.echo(f"{customers.count:,} of {customers.users:,} users ({share}) match.")
        if file:
            customers.write(file)
        document = {
            "where": where,
            "count": customers.count,
            "users": customers.users,
            "to": file.address if file else None,
            "columns": customers.columns,
            "versions": version_times(customers.used.values()),
            "notes": customers.notes,
        }
    written = [f"Written to {file.address}"] if file else []
    used = ", ".join(f"{asset} {version.version}" for asset, version in customers.used.items())
    return document, [*written, f"Versions: {used}", *customers.notes], 0


@click.command
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8_000, show_default=True, help="Port to listen on.")
@click.option("--data-dir", metavar="DIR", help=DATA_DIR_HELP)
def serve(host: str, port: int, data_dir: str | None) -> None:
    """Answer HTTP requests with published results: recommendations, similar products, pairs, segments.

    Read-only. It loads new versions without a restart. http://127.0.0.1:8000/docs describes the requests.

    Example: ecommerce-assets serve --port 8080
    """
    try:
        from ecommerce_assets.delivery.service import run
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "fastapi_offline", "uvicorn"):
            raise
        raise click.ClickException(
            f"The package {error.name} is not installed: run `uv sync --extra serve`, or "
            "`pip install 'ecommerce_assets[serve]'`."
        ) from None
    run(data_dir or load_settings().data_dir, host, port)
