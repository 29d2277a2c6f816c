"""The command line of landing: arguments in, printed summary and exit code out."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import DEFAULT_COLUMNS, Layout
from ecommerce_assets.events.landing.run import land
from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS, OPTIONAL_COLUMNS
from ecommerce_assets.settings import DATA_DIR, SettingsError, load_settings

_DESCRIPTION = """\
Land event files as daily partitions DIR/raw/events/event_date=YYYY-MM-DD, from which the asset cleaned_events reads.

Files: .csv, .csv.gz, .csv.zst (columns separated by comma, semicolon, tab or |) and Parquet; folders of them; globs.
Landing the same file twice changes nothing. An interrupted landing is finished by the same command.
"""

_EXAMPLES = """\
event columns: {columns}
  a file may lack {optional}; they become null
event types: {types}
times: year-first dates such as 2019-10-01 00:00:00 UTC (without a zone: UTC), or numbers since 1970 in seconds,
  milliseconds, microseconds or nanoseconds

examples:
  {program} 2019-Oct.csv.gz 2019-Nov.csv.gz --data-dir ~/shop
  {program} 'exports/cleaned_data_*.parquet' --data-dir ~/shop

  UCI Online Retail:
  ECOMMERCE_ID_TYPE=string {program} 'Online Retail.csv' --data-dir ~/retail --encoding latin-1 \\
    --map InvoiceNo=user_session --map StockCode=product_id --map CustomerID=user_id --default event_type=purchase \\
    --compute "event_time=strptime(InvoiceDate, '%d/%m/%Y %H:%M')" \\
    --compute 'price=CAST(Quantity AS INTEGER) * CAST(UnitPrice AS DECIMAL(12, 3))' \\
    --compute "event_id=concat_ws('-', InvoiceNo, StockCode, Quantity, UnitPrice, row_number() OVER
      (PARTITION BY InvoiceNo, StockCode, Quantity, UnitPrice))" \\
    --where "InvoiceNo NOT LIKE 'C%'" --where 'CustomerID IS NOT NULL'
"""

_PROGRAM = "python -m ecommerce_assets.events.landing"

_OPTIONS = (
    ("--compute", "NAME=SQL", "the event column NAME is this DuckDB expression over the file's columns"),
    ("--where", "SQL", "land only rows that meet this DuckDB condition over the file's columns"),
    ("--map", "SOURCE=TARGET", "the file's column SOURCE is the event column TARGET"),
    ("--map-event", "SOURCE=TARGET", "the file's event SOURCE is the event type TARGET"),
    ("--default", "COLUMN=VALUE", f"VALUE in every event of a file without COLUMN ({', '.join(DEFAULT_COLUMNS)})"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Land the named files; returns 0 if all went well, 2 if nothing was landed because of an error."""
    for stream in (sys.stdout, sys.stderr):
        _print_anything(stream)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    arguments = _parser().parse_args(argv)
    try:
        _require_utf8(vars(arguments))
        layout = Layout.parse(
            arguments.compute,
            arguments.where,
            arguments.map,
            arguments.map_event,
            arguments.default,
            arguments.header,
            arguments.encoding,
        )
        print(printable(str(land(arguments.sources, _data_dir(arguments.data_dir), layout))))
    except BrokenPipeError:  # whoever read the summary has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except LandingError as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; no half-written file is left. Run the same command again to finish.", file=sys.stderr)
        return 130
    return 0


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


def _require_utf8(arguments: dict[str, Any]) -> None:
    for name, values in arguments.items():
        for value in values if isinstance(values, list) else [values]:
            try:
                str(value).encode()
            except UnicodeEncodeError:
                if name != "sources":  # a file may be called so
                    raise LandingError(f"--{name.replace('_', '-')} {value!r} is not UTF-8.") from None


def _print_anything(stream: TextIO | Any) -> None:
    """Write characters that the terminal's encoding lacks as escapes instead of failing."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description=_DESCRIPTION,
        epilog=_EXAMPLES.format(
            program=_PROGRAM,
            columns=", ".join(EVENTS.names),
            optional=", ".join(OPTIONAL_COLUMNS),
            types=", ".join(EVENT_TYPES),
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("sources", nargs="+", metavar="FILE_OR_FOLDER_OR_GLOB")
    parser.add_argument("--data-dir", metavar="DIR", help=f"folder or bucket to land in; without it ${DATA_DIR}")
    for option, form, text in _OPTIONS:
        parser.add_argument(option, metavar=form, help=f"{text}; repeatable", action="append", default=[])
    parser.add_argument("--header", metavar="NAMES", help="comma-separated column names of CSV files without a header")
    parser.add_argument("--encoding", choices=("utf-8", "latin-1"), default="utf-8", help="of CSV files")
    return parser


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


if __name__ == "__main__":
    sys.exit(main())
