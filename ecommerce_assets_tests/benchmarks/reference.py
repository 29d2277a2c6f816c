"""Another trainer: a shell command with `{data}` for the folder of events and `{out}` for its output."""

from __future__ import annotations

import shlex
from typing import Any

from ecommerce_assets_tests.benchmarks import process
from ecommerce_assets_tests.benchmarks.part import Place


def measure(place: Place, command: str) -> dict[str, Any]:
    """Returns wall seconds, peak memory, and seconds by stage if the last line of the command's output is JSON.

    The stages are in its field `stages`; without that field, every number in the document is a stage.
    """
    work = place.work("reference")
    paths = {"{data}": shlex.quote(str(place.export)), "{out}": shlex.quote(str(work / "out"))}
    for name, path in paths.items():  # format() would fail on other braces in the command
        command = command.replace(name, path)
    finished = process.run(command, work / "reference")
    if finished.exit_code:
        raise RuntimeError(f"the reference ended with {finished.exit_code}; see {work}/reference.err")
    document = finished.document() or {}
    stages = document.get("stages", document)
    return {
        "seconds": finished.seconds,
        "peak_bytes": finished.peak_bytes,
        "stages": {name: float(value) for name, value in stages.items() if isinstance(value, int | float)},
    }
