"""A process that forks a writer for every file-system call of a materialisation, and has each killed at its call.

What is written is a JSON document, through the IO manager that models and tables share write, check, publish and prune
with: no Spark, so that every single call can be tried in seconds. Run as a process of its own, because a process with
threads cannot be forked.
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
# Made once: making it takes ten times as long as writing a document.
INSTANCE = dg.DagsterInstance.ephemeral()
RESOURCES: Any = dg.build_resources({}, INSTANCE).__enter__()


def write(data_dir: Path, generation: int) -> None:
    """Materialise one generation of the document."""
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
    # Without a run there is nobody to report a failed check to.
    with suppress(BlockedError, dg.DagsterInvariantViolationError):
        list(output)


def killed_at(data_dir: Path, generation: int, call: int, after: bool) -> bool:
    """Whether a writer of this generation reached the call, and so died there."""
    child = os.fork()
    if child == 0:
        Killer(data_dir, call, after)
        write(data_dir, generation)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def main(data_dir: Path, step: int) -> None:
    """Print how many moments were tried: every `step`-th call."""
    # No grace: so that every run also removes a superseded version and leftovers, and can be killed while it does.
    io_managers.GRACE = retention.GRACE = timedelta(0)
    moments, generation, now = 0, 1, 0
    # Good generations and poisoned ones, which take another way through the code.
    for poisoned in (False, True):
        for after in (False, True):
            call, died = 1, True
            while died:
                generation = _next(generation, poisoned=False)
                write(data_dir, generation)
                assert not (left := leftovers(data_dir)), (call, after, left)
                now = seen(data_dir)["document"]
                assert now == generation, "the run after a killed one is what readers see"
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
