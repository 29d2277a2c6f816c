"""A process that materialises one generation after the other with its own small Spark, until it is killed.

It prints its state to standard output, one JSON object per line, so that its parent can choose the time of the kill.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyspark import SparkContext

from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import io_managers, retention
from ecommerce_assets_tests.storage.generations import FAST, leftovers, materialise, run
from ecommerce_assets_tests.storage.killing import Killer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("assets", help="comma-separated")
    parser.add_argument("--first", type=int, default=1, help="number of the first generation")
    parser.add_argument("--runs", type=int, help="number of runs; then it waits for the end of standard input")
    parser.add_argument("--keep-raw", action="store_true", help="run over the existing raw files again and again")
    parser.add_argument("--grace", type=int, default=0, help="hours that superseded versions and leftovers are kept")
    parser.add_argument("--keep", type=int, default=1, help="superseded versions that are kept")
    parser.add_argument("--call", type=int, default=0, help="die at this file-system call of the last run")
    parser.add_argument("--after", action="store_true", help="when the call is done, not before it begins")
    arguments = parser.parse_args()
    # Without it, nothing would be old enough to be removed.
    io_managers.GRACE = retention.GRACE = timedelta(hours=arguments.grace)
    checkpoints = f"{arguments.data_dir}/.checkpoints"
    spark: Any = SparkResource(master="local[1]", driver_memory="1g", checkpoint_dir=checkpoints, spark_config=FAST)
    report(java=spark.spark_session and SparkContext._gateway.proc.pid)  # type: ignore[union-attr]
    logging.disable(logging.INFO)
    killer = Killer(arguments.data_dir, 0, arguments.after)
    step = 0 if arguments.keep_raw else 1
    for number, generation in zip(_numbers(arguments.runs), itertools.count(arguments.first, step), strict=False):
        killer.count, killer.at = 0, arguments.call if number + 1 == arguments.runs else 0
        report(begins=generation)
        started = time.monotonic()
        materialise_one = materialise if arguments.keep_raw else run
        materialise_one(arguments.data_dir, generation, arguments.assets.split(","), arguments.keep)
        report(
            ends=generation,
            seconds=time.monotonic() - started,
            calls=killer.count,
            leftovers=leftovers(arguments.data_dir),
        )
    report(done=True)
    sys.stdin.read()


def _numbers(runs: int | None) -> Iterable[int]:
    return itertools.count() if runs is None else range(runs)


def report(**state: object) -> None:
    print(json.dumps(state), flush=True)


if __name__ == "__main__":
    main()
