"""Generates events, runs the parts one after the other, and writes a report.

The folder OUT gets report.md, results.json and seconds.png, and for each number of events a folder with the events, the
lake, the logs and one JSON file per part. The report has the last results of every part in the folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecommerce_assets_tests.benchmarks import growth, machine, process, reference, report
from ecommerce_assets_tests.benchmarks.part import Place, missing

PACKAGE = "ecommerce_assets_tests.benchmarks"
MODULES = {"sail": "sail", "graph": "graph", "mllib": "mllib", "duckdb": "duckdb_peer", "kernels": "kernels"}
PARTS = (*MODULES, "reference")
"""In the order in which they run; `kernels` reads the lake of `graph`."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}", description=__doc__)
    parser.add_argument("--events", type=float, nargs="+", default=[1e6], metavar="N", help="sizes, such as 1e6 5e6")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of events, logs and results")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument(
        "--reference",
        metavar="COMMAND",
        help="another trainer: a shell command, with {data} for the folder of Parquet events and {out} for its output; "
        "if its last line is JSON, its numbers are seconds by stage",
    )
    parser.add_argument("--memory", default="8g", help="heap of each Spark driver (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the events (default: %(default)s)")
    parser.add_argument(
        "--mllib-up-to",
        type=float,
        default=float("inf"),
        metavar="N",
        help="run MLlib, which is the slowest part, only up to this number of events",
    )
    return parser.parse_args(arguments)


def run_module(name: str, place: Place, *options: str) -> dict[str, Any]:
    """Runs a part in another process; returns its results, with the seconds and the memory of the process."""
    command = [sys.executable, "-m", f"{PACKAGE}.{name}", "--root", str(place.root), *options]
    log = place.root / "logs" / name
    finished = process.run(command, log)
    results = finished.document()
    if finished.exit_code or results is None:
        return {"failed": f"{name} ended with {finished.exit_code}; see {log}.err."}
    if "skipped" in results:
        return results
    return {"seconds": finished.seconds, "peak_bytes": finished.peak_bytes, **results}


def run_part(name: str, place: Place, events: int, options: argparse.Namespace) -> dict[str, Any]:
    without_mllib = events > options.mllib_up_to
    if name == "mllib" and without_mllib:
        return {"skipped": f"more than {options.mllib_up_to:,.0f} events."}
    if name == "kernels" and without_mllib:
        return run_module(MODULES[name], place, "--memory", options.memory, "--without-mllib")
    if name != "reference":
        return run_module(MODULES[name], place, "--memory", options.memory)
    if not options.reference:
        return {"skipped": "no --reference COMMAND was given."}
    try:
        return reference.measure(place, options.reference)
    except RuntimeError as error:
        return {"failed": f"{error}."}


def read_results(out: Path) -> dict[int, dict[str, Any]]:
    """Reads all results in the folder, by number of events and part."""
    results: dict[int, dict[str, Any]] = {}
    for folder in out.glob("events_*"):
        files = {part: folder / "results" / f"{part}.json" for part in PARTS}
        parts = {part: json.loads(file.read_text()) for part, file in files.items() if file.exists()}
        if parts:
            results[int(folder.name.removeprefix("events_"))] = parts
    return dict(sorted(results.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if a part failed."""
    options = parse(arguments)
    parts = [part for part in PARTS if part in (options.only or PARTS)]
    if not options.only and not options.reference:
        parts.remove("reference")
    without_memory = missing("psutil")
    if without_memory:
        print(f"No peak memory: {without_memory}")
    out, failed = options.out.resolve(), False
    for events in sorted({int(number) for number in options.events}):
        place = Place(out / f"events_{events}", options.memory)
        generated = run_module("events", place, "--events", str(events), "--seed", str(options.seed))
        if "failed" in generated:
            print(generated["failed"])
            return 1
        print(f"{events:,} events in {place.root}", flush=True)
        for part in parts:
            results = run_part(part, place, events, options)
            failed |= "failed" in results
            problem = next((results[key] for key in ("skipped", "failed") if key in results), None)
            print(f"  {part}: {problem or format(results['seconds'], ',.1f') + ' s'}", flush=True)
            results["at"] = datetime.now(UTC).isoformat(timespec="seconds")
            folder = place.root / "results"
            folder.mkdir(exist_ok=True)
            (folder / f"{part}.json").write_text(json.dumps(results, indent=1))
    write_report(out)
    return int(failed)


def write_report(out: Path) -> None:
    """Prints the report of the results in the folder, and writes it there as Markdown, JSON and a plot."""
    results, described = read_results(out), machine.describe()
    text = report.render(results, described)
    print(f"\n{text}")
    (out / "report.md").write_text(text)
    document = {
        "machine": described,
        "results": results,
        "comparisons": {
            events: [row.as_dict() for row in rows] for events, rows in report.compare_all(results).items()
        },
        "growth": {
            f"{part}: {stage}": growth.exponents(seconds) for (part, stage), seconds in growth.series(results).items()
        },
    }
    (out / "results.json").write_text(json.dumps(document, indent=1))
    without = missing("matplotlib")
    if without:
        print(f"No plot: {without}")
    else:
        growth.plot(results, out / "seconds.png")
    print(f"Written to {out}.")


if __name__ == "__main__":
    sys.exit(main())
