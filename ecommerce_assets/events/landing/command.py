"""The command `ecommerce-assets land`."""

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
Land event files in the daily partitions DIR/raw/events/event_date=YYYY-MM-DD, which the asset cleaned_events reads.

SOURCES are .csv, .csv.gz, .csv.zst (columns separated by comma, semicolon, tab or |) and Parquet files, folders of
them, and globs. Landing the same file twice changes nothing. If a landing is interrupted, run the same command again.
The exit code is 2 if nothing was landed because of an error.

Event columns: {", ".join(EVENTS.names)}. Optional are {", ".join(OPTIONAL_COLUMNS)}.
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
    ("--compute", "NAME=SQL", "Compute the event column NAME with a DuckDB expression over the columns of the file."),
    ("--where", "SQL", "Land only rows that meet this DuckDB condition over the columns of the file."),
    ("--map", "SOURCE=TARGET", "Use the column SOURCE of the file as the event column TARGET."),
    ("--map-event", "SOURCE=TARGET", "Use the event type TARGET for events that the file calls SOURCE."),
    ("--default", "COLUMN=VALUE", f"Use VALUE if the file lacks COLUMN ({', '.join(DEFAULT_COLUMNS)})."),
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
    """Runs the command; the exit code is 2 after a LandingError and 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        _escape_unencodable(stream)
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
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except LandingError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to finish; no partial file is left.", file=sys.stderr)
        sys.exit(130)


def printable(text: str) -> str:
    r"""Returns the text with control characters escaped, so that a value of a file cannot control the terminal.

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
                raise LandingError(f"--{name.replace('_', '-')} {value!r} is not valid UTF-8.") from None


def _escape_unencodable(stream: TextIO | Any) -> None:
    """Escapes characters that the encoding of the terminal lacks, instead of failing."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _data_dir(argument: str | None) -> str:
    # The default of the settings is the shipped sample, which is never a target.
    data_dir = argument or _data_dir_of_settings()
    if not data_dir:
        raise LandingError(f"No data dir is set: add --data-dir DIR or set the variable {DATA_DIR}.")
    return data_dir


def _data_dir_of_settings() -> str | None:
    try:
        settings = load_settings()
    except SettingsError as error:
        raise LandingError(f"{error}.") from error
    return settings.data_dir if "data_dir" in settings.model_fields_set else None
