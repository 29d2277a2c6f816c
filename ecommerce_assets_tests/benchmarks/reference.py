"""Any other trainer, as a whole process: a shell command with `{data}` for the folder of events and `{out}`."""

from __future__ import annotations

import shlex
from typing import Any

from ecommerce_assets_tests.benchmarks import process
from ecommerce_assets_tests.benchmarks.part import Place


def measure(place: Place, command: str) -> dict[str, Any]:
    """Wall seconds, peak memory, and the seconds by stage where the command's last line is JSON that has some.

    They may stand under `stages`; else every number of the document counts as a stage.
    """
    work = place.work("reference")
    names = {"{data}": shlex.quote(str(place.drop)), "{out}": shlex.quote(str(work / "out"))}
    for name, path in names.items():  # no format(): a shell command may have other braces
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
