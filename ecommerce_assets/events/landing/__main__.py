"""The command line of landing: arguments in, printed summary and exit code out. No landing logic."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.run import land
from ecommerce_assets.events.landing.target import DATA_DIR_VARIABLE


def main(argv: Sequence[str] | None = None) -> int:
    """Land the named files; 0 where all went well, 2 where nothing was landed because of an error."""
    parser = argparse.ArgumentParser(
        prog="python -m ecommerce_assets.events.landing",
        description="Land event files (.csv, .csv.gz, .csv.zst, .parquet) as daily partitions DIR/raw/events/…",
    )
    parser.add_argument("sources", nargs="+", metavar="FILE_OR_FOLDER_OR_GLOB")
    parser.add_argument("--data-dir", metavar="DIR", help=f"where to land; without it ${DATA_DIR_VARIABLE}")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        print(land(arguments.sources, _data_dir(arguments.data_dir)))
    except LandingError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; no half-written file is left. Run the same command again to finish.", file=sys.stderr)
        return 130
    return 0


def _data_dir(argument: str | None) -> Path:
    # No default: the shipped sample's folder would be the only candidate, and it is never a target.
    given = argument or os.environ.get(DATA_DIR_VARIABLE)
    if not given:
        raise LandingError(f"No data dir: say where to land with --data-dir DIR or the variable {DATA_DIR_VARIABLE}.")
    if "://" in given:
        raise LandingError(f"{given} is a URL; landing writes to local folders only.")
    return Path(given).expanduser()


if __name__ == "__main__":
    sys.exit(main())
