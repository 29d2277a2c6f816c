"""The command `ecommerce-assets land`: arguments in, printed summary and exit code out."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

import click

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import DEFAULT_COLUMNS, Layout
from ecommerce_assets.events.landing.run import land
from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS, OPTIONAL_COLUMNS
from ecommerce_assets.settings import DATA_DIR, SettingsError, load_settings

_HELP = f"""\
Land event files as daily partitions DIR/raw/events/event_date=YYYY-MM-DD, from which the asset cleaned_events reads.

SOURCES are .csv, .csv.gz, .csv.zst (columns separated by comma, semicolon, tab or |) and Parquet files, folders of
them, and globs. Landing the same file twice changes nothing. If a landing is interrupted, run the same command again.
The exit code is 2 if nothing was landed because of an error.

Event columns: {", ".join(EVENTS.names)}. A file may lack {", ".join(OPTIONAL_COLUMNS)}; they become null.
Event types: {", ".join(EVENT_TYPES)}. Times: year-first dates such as 2019-10-01 00:00:00 UTC (without a zone: UTC), or
numbers since 1970 in seconds, milliseconds, microseconds or nanoseconds.

\b
Examples:
  ecommerce-assets land 2019-Oct.csv.gz 2019-Nov.csv.gz --data-dir ~/shop
  ecommerce-assets land 'exports/cleaned_data_*.parquet' --data-dir ~/shop
  ECOMMERCE_ID_TYPE=string ecommerce-assets land 'Online Retail.csv' --data-dir ~/retail --encoding latin-1 \\
    --map InvoiceNo=user_session --map StockCode=product_id --map CustomerID=user_id --default event_type=purchase \\
    --compute "event_time=strptime(InvoiceDate, '%d/%m/%Y %H:%M')" \\
    --compute 'price=CAST(Quantity AS INTEGER) * CAST(UnitPrice AS DECIMAL(12, 3))' \\
    --where "InvoiceNo NOT LIKE 'C%'" --where 'CustomerID IS NOT NULL'
"""

_REPEATABLE = (
    ("--compute", "NAME=SQL", "The event column NAME is this DuckDB expression over the file's columns."),
    ("--where", "SQL", "Land only rows that meet this DuckDB condition over the file's columns."),
    ("--map", "SOURCE=TARGET", "The file's column SOURCE is the event column TARGET."),
    ("--map-event", "SOURCE=TARGET", "The file's event SOURCE is the event type TARGET."),
    ("--default", "COLUMN=VALUE", f"VALUE in every event of a file without COLUMN ({', '.join(DEFAULT_COLUMNS)})."),
)


def _repeatable(command: Callable[..., None]) -> Callable[..., None]:
    for option, form, text in reversed(_REPEATABLE):
        command = click.option(option, metavar=form, help=f"{text} Repeatable.", multiple=True)(command)
    return command


@click.command("land", help=_HELP)
@click.argument("sources", nargs=-1, required=True)
@click.option("--data-dir", metavar="DIR", help=f"Folder or bucket to land in; by default {DATA_DIR}.")
@_repeatable
@click.option("--header", metavar="NAMES", help="Comma-separated column names of CSV files without a header.")
@click.option(
    "--encoding",
    type=click.Choice(["utf-8", "latin-1"]),
    default="utf-8",
    show_default=True,
    help="Encoding of CSV files.",
)
def command(sources: tuple[str, ...], data_dir: str | None, **options: Any) -> None:
    """Land the named files; ends with 0 if all went well, 2 if nothing was landed because of an error."""
    for stream in (sys.stdout, sys.stderr):
        _print_anything(stream)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        _require_utf8({"data_dir": data_dir, **options})
        layout = Layout.parse(
            options["compute"],
            options["where"],
            options["map"],
            options["map_event"],
            options["default"],
            options["header"],
            options["encoding"],
        )
        print(printable(str(land(sources, _data_dir(data_dir), layout))))
    except BrokenPipeError:  # whoever read the summary has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except LandingError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Interrupted; no half-written file is left. Run the same command again to finish.", file=sys.stderr)
        sys.exit(130)


def printable(text: str) -> str:
    r"""The text with control characters written out, so that a value of a file cannot control a terminal.

    Examples
    --------
    >>> print(printable("a\x1b[31mb"))
    a\x1b[31mb
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _require_utf8(options: dict[str, Any]) -> None:
    for name, values in options.items():
        for value in values if isinstance(values, tuple) else [values]:
            try:
                str(value).encode()
            except UnicodeEncodeError:
                raise LandingError(f"--{name.replace('_', '-')} {value!r} is not UTF-8.") from None


def _print_anything(stream: TextIO | Any) -> None:
    """Write characters that the terminal's encoding lacks as escapes instead of failing."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _data_dir(argument: str | None) -> str:
    # No default: the shipped sample's folder would be the only candidate, and it is never a target.
    given = argument or _data_dir_of_settings()
    if not given:
        raise LandingError(f"No data dir: say where to land with --data-dir DIR or the variable {DATA_DIR}.")
    return given


def _data_dir_of_settings() -> str | None:
    try:
        settings = load_settings()
    except SettingsError as error:
        raise LandingError(f"{error}.") from error
    return settings.data_dir if "data_dir" in settings.model_fields_set else None
