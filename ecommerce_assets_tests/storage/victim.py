"""A process that materialises one generation after the other with a small Spark of its own, until it is killed.

It tells on standard output what it is doing, one JSON object a line, so that its parent can choose the moment.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pyspark import SparkContext

from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import io_managers
from ecommerce_assets.storage.retention import prune
from ecommerce_assets_tests.storage.generations import FAST, leftovers, run
from ecommerce_assets_tests.storage.killing import Killer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("assets", help="comma-separated")
    parser.add_argument("--first", type=int, default=1, help="number of the first generation")
    parser.add_argument("--grace", type=float, default=0, help="seconds that superseded versions are kept")
    parser.add_argument("--call", type=int, default=0, help="die at this file-system call of the second generation")
    parser.add_argument("--after", action="store_true", help="when the call is done, not before it begins")
    arguments = parser.parse_args()
    # Without this, nothing is ever old enough for a run to remove it, or to be killed while it does.
    io_managers.prune = partial(prune, grace=timedelta(seconds=arguments.grace))  # type: ignore[attr-defined]
    spark: Any = SparkResource(master="local[1]", driver_memory="1g", spark_config=FAST)
    tell(java=spark.spark_session and SparkContext._gateway.proc.pid)  # type: ignore[union-attr]
    logging.disable(logging.INFO)
    killer = Killer(arguments.data_dir, 0, arguments.after)
    for number, generation in enumerate(itertools.count(arguments.first)):
        if number == 1:
            # The run before was the first after the kill of the victim before: it must have left all tidy.
            killer.at = arguments.call
        killer.count = 0
        tell(begins=generation)
        started = time.monotonic()
        run(arguments.data_dir, generation, arguments.assets.split(","), spark)
        tell(
            ends=generation,
            seconds=time.monotonic() - started,
            calls=killer.count,
            leftovers=leftovers(arguments.data_dir),
        )


def tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
