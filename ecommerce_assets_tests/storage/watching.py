"""A process that reads every asset in a loop, without Spark, until its standard input ends; then it prints the result.

Some chosen files are read a second time later, as by a slow reader.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ecommerce_assets_tests.storage.generations import Snapshot, generations, snapshot


def watch(data_dir: Path, again_after: float, stop: threading.Event) -> dict[str, Any]:
    """Returns the number of reads, the generations of each asset in order, and the failures."""
    reads, rereads = 0, 0
    order: dict[str, list[int]] = {}
    failures: list[str] = []
    held: tuple[float, Snapshot, dict[str, int]] | None = None
    while not stop.wait(0.01) and len(failures) < 5:
        try:
            chosen = snapshot(data_dir)
            now = generations(chosen)
            reads += 1
            if held is None and chosen:
                held = (time.monotonic(), chosen, now)
            elif held is not None and time.monotonic() - held[0] > again_after:
                _, before, then = held
                held = None
                if generations(before) != then:
                    failures.append("files that were chosen earlier changed")
                rereads += 1
        except Exception as error:
            failures.append(repr(error))
            continue
        for asset, generation in now.items():
            if order.setdefault(asset, [generation])[-1] != generation:
                order[asset].append(generation)
        failures += [f"{asset} was missing for a moment" for asset in order.keys() - now.keys()]
    return {"reads": reads, "rereads": rereads, "seen": order, "failures": failures}


if __name__ == "__main__":
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    print("reading", flush=True)
    print(json.dumps(watch(Path(sys.argv[1]), float(sys.argv[2]), done)))
