"""A process that forks a writer for every file-system call of a materialisation; each is killed at its call.

It writes a JSON document without Spark, so that every call can be tried in seconds. It is a separate process, because a
process with threads cannot be forked.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import io_managers, retention
from ecommerce_assets.storage.checks import Check
from ecommerce_assets.storage.io_managers import BlockedError, JsonIOManager
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset
from ecommerce_assets_tests.storage.generations import is_poisoned, leftovers, seen
from ecommerce_assets_tests.storage.killing import Killer

NOT_POISONED = Check(
    "not_poisoned", "Has no poison.", lambda context: "poison" if context.results["poisoned"] else None
)
CATALOG = {"document": StoredAsset(checks=(NOT_POISONED,))}
# Once, because it is much slower than writing a document.
INSTANCE = dg.DagsterInstance.ephemeral()
RESOURCES: Any = dg.build_resources({}, INSTANCE).__enter__()


def write(data_dir: Path, generation: int) -> None:
    """Materialises one generation of the document."""
    context = dg.build_output_context(
        asset_key="document",
        asset_spec=dg.AssetSpec("document"),
        run_id=f"run {generation}",
        step_key="document",
        instance=INSTANCE,
        resources=RESOURCES,
    )
    value = {"generation": generation, "ballast": "x" * 100_000}
    manager = JsonIOManager(data_dir=str(data_dir), catalog=CATALOG, keep_versions=1, spark=SparkResource())
    output = manager.handle_output(context, Artifact(value, results={"poisoned": is_poisoned(generation)}))
    # Without a run, a failed check cannot be reported.
    with suppress(BlockedError, dg.DagsterInvariantViolationError):
        list(output)


def killed_at(data_dir: Path, generation: int, call: int, after: bool) -> bool:
    """Returns whether a writer of this generation reached the call, where it was killed."""
    child = os.fork()
    if child == 0:
        Killer(data_dir, call, after)
        write(data_dir, generation)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def main(data_dir: Path, step: int) -> None:
    """Prints the number of kills, at every `step`-th call."""
    # No grace, so that every run also removes a superseded version and leftovers, and may be killed meanwhile.
    io_managers.GRACE = retention.GRACE = timedelta(0)
    moments, generation, now = 0, 1, 0
    # Published generations and blocked ones.
    for poisoned in (False, True):
        for after in (False, True):
            call, died = 1, True
            while died:
                generation = _next(generation, poisoned=False)
                write(data_dir, generation)
                assert not (left := leftovers(data_dir)), (call, after, left)
                now = seen(data_dir)["document"]
                assert now == generation, "readers see the run after a kill"
                generation = _next(generation, poisoned)
                died = killed_at(data_dir, generation, call, after)
                assert seen(data_dir)["document"] in {now, *(() if poisoned else (generation,))}
                moments, call = moments + died, call + step
            assert seen(data_dir)["document"] == (now if poisoned else generation)
    print(moments)


def _next(generation: int, poisoned: bool) -> int:
    generation += 1
    while is_poisoned(generation) != poisoned:
        generation += 1
    return generation


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
