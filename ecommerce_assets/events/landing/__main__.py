"""The command line of landing: arguments in, printed summary and exit code out. No landing logic."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import DEFAULT_COLUMNS, Layout
from ecommerce_assets.events.landing.progress import shown
from ecommerce_assets.events.landing.run import land
from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS, OPTIONAL_COLUMNS
from ecommerce_assets.settings import DATA_DIR, SettingsError, load_settings

_DESCRIPTION = """\
Land event files as daily partitions DIR/raw/events/event_date=YYYY-MM-DD, from which the asset cleaned_events reads.

Files: .csv, .csv.gz, .csv.zst (columns separated by comma, semicolon, tab or |) and .parquet; folders of them; globs.
Landing the same file twice changes nothing. An interrupted landing is finished by the same command.
"""

_EXAMPLES = """\
event columns: {columns}
  without {optional} a file lands too; they become null
event types: {types}
times: dates such as 2019-10-01 00:00:00 UTC (no zone: UTC), or numbers since 1970 in seconds, milliseconds,
  microseconds or nanoseconds, which is found out

examples:
  {program} 2019-Oct.csv.gz 2019-Nov.csv.gz --data-dir ~/shop
  {program} 'drops/cleaned_data_*.parquet' --data-dir ~/shop

  RetailRocket's layout (timestamp, visitorid, event, itemid, transactionid):
  {program} events.csv --data-dir ~/shop \\
    --map timestamp=event_time --map visitorid=user_id --map event=event_type --map itemid=product_id \\
    --map-event addtocart=cart --map-event transaction=purchase --default price=0
"""

_PROGRAM = "python -m ecommerce_assets.events.landing"


def main(argv: Sequence[str] | None = None) -> int:
    """Land the named files; 0 where all went well, 2 where nothing was landed because of an error."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        data_dir = _data_dir(arguments.data_dir)
        layout = Layout.parse(arguments.map, arguments.map_event, arguments.default)
        with shown() as progress:
            summary = land(arguments.sources, data_dir, layout, progress)
        print(summary)
    except LandingError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; no half-written file is left. Run the same command again to finish.", file=sys.stderr)
        return 130
    return 0


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
    parser.add_argument("--data-dir", metavar="DIR", help=f"where to land; without it ${DATA_DIR}")
    for option, form, text in (
        ("--map", "SOURCE=TARGET", "the file's column SOURCE is our TARGET"),
        ("--map-event", "SOURCE=TARGET", "the file's event SOURCE is our event type TARGET"),
        ("--default", "COLUMN=VALUE", f"VALUE in all rows of a file without COLUMN ({', '.join(DEFAULT_COLUMNS)})"),
    ):
        parser.add_argument(option, metavar=form, help=f"{text}; repeatable", action="append", default=[])
    return parser


def _data_dir(argument: str | None) -> Path:
    # No default: the shipped sample's folder would be the only candidate, and it is never a target.
    given = argument or _data_dir_of_settings()
    if not given:
        raise LandingError(f"No data dir: say where to land with --data-dir DIR or the variable {DATA_DIR}.")
    if "://" in given:
        raise LandingError(f"{given} is a URL; landing writes to local folders only.")
    return Path(given).expanduser()


def _data_dir_of_settings() -> str | None:
    try:
        settings = load_settings()
    except SettingsError as error:
        raise LandingError(f"{error}.") from error
    return settings.data_dir if "data_dir" in settings.model_fields_set else None


if __name__ == "__main__":
    sys.exit(main())
