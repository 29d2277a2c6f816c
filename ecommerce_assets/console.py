"""What people read in a shell: short log lines, and one sentence for a mistake in a command. `set_up` prepares it.

Dagster prints its own log lines and reads its own arguments: only Python's logging and `sys.excepthook` can be told how
that looks. What Dagster records, and the UI shows, stays as it is.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

RUN_COMMANDS = {"materialize", "execute", "launch"}
"""Words in the commands that run assets in a shell, such as `dagster asset materialize`."""

INTERRUPTED = "Interrupted: versions that were published stay, other assets of the run were not made."
_INTERRUPTS = ("KeyboardInterrupt", "DagsterExecutionInterruptedError")
_SENTENCES = ("NoEngineError", "SailMemoryError")
"""Errors whose message says all, and what to do."""
_NAMES_ASSET = re.compile(r"[a-z][a-z0-9_]*(,|:| \(| is blocked)")
"""How a message begins that names its asset, which need not be the step's name."""


class RunRecord(logging.LogRecord):
    """A log record whose message, if it is of a run, names the step but neither the job nor the run's id."""

    def getMessage(self) -> str:  # noqa: N802
        meta = getattr(self, "dagster_meta", None)
        # Sensors log with metadata of their own, which names no step.
        return message_of(meta) if meta is not None and "step_key" in meta else super().getMessage()


def message_of(meta: dict[str, Any]) -> str:
    """The message of a log record in one line; with a traceback for an error that no sentence explains.

    Parameters
    ----------
    meta
        What Dagster records with a log line: `step_key`, `orig_message`, `dagster_event`.
    """
    step, text, event = meta["step_key"], str(meta["orig_message"]), meta["dagster_event"]
    data = event.event_specific_data if event is not None else None
    explained = getattr(data, "user_failure_data", None)
    error = getattr(data, "error", None)
    if explained is not None and explained.description:
        text = explained.description
    elif error is not None and "Steps failed" not in text:  # a line of the step says why
        sentence = INTERRUPTED if _caused_by(error, _INTERRUPTS) else _explained(error)
        text = sentence or f"{text}\n{error.to_string()}"
    text = re.sub(r'^Execution of run for "\w+" failed\.', "The run failed.", text)
    return text if step is None or _NAMES_ASSET.match(text) else f"{step}: {text}"


def _caused_by(error: Any, names: Sequence[str]) -> Any:
    """The error or the cause of it that has one of these names; None if there is none."""
    return error if error is None or error.cls_name in names else _caused_by(error.cause, names)


def _explained(error: Any) -> str | None:
    found = _caused_by(error, _SENTENCES)
    return found and str(found.message).partition(": ")[2].strip()


@contextmanager
def short_log_lines() -> Iterator[None]:
    """Lines of runs in this process are short while this is open."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(RunRecord)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


def set_up(arguments: Sequence[str]) -> None:
    """Prepare a process that runs one of Dagster's commands; does nothing in any other."""
    program = Path(arguments[0])
    if not {program.stem, program.parent.name} & {"dagster", "dg"}:
        return
    logging.setLogRecordFactory(RunRecord)
    if RUN_COMMANDS & set(arguments[1:4]):
        sys.excepthook = _print_sentence
        now = time.strftime("%Y-%m-%d %H:%M:%S %z")
        print(f"{now} - ecommerce_assets - INFO - Loading the assets.", file=sys.stderr, flush=True)


def _print_sentence(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    sentence = sentence_of(error)
    if sentence is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(sentence, file=sys.stderr)


def sentence_of(error: BaseException) -> str | None:
    """One sentence about what ended a command; None for errors that need their traceback."""
    name, text = type(error).__name__, str(error)
    if name in _INTERRUPTS:
        return INTERRUPTED
    if "Invalid partition range format" in text:
        return "Error: --partition-range takes the first and the last day with three dots, 2019-10-01...2019-12-29."
    if "containing the passed partition key" in text:
        return f"Error: a day that was asked for is not a daily partition; {_partitions()}."
    if found := re.search(r"AssetKey\(s\) \[(.*?)\] were selected", text):
        near = ", ".join(re.findall(r'\n\t\["(.*?)"\]', text))
        return f"Error: there is no asset {found[1]}" + (f"; did you mean {near}?" if near else ".")
    if name.startswith("DagsterInvalid") or name == "CheckError":
        return f"Error: {' '.join(text.removeprefix('Failure condition: ').split())}"
    return None


def _partitions() -> str:
    from ecommerce_assets.settings import load_settings

    settings = load_settings()
    first, last = settings.first_day, settings.end_day or "yesterday"
    return f"these go from {first} (ECOMMERCE_FIRST_DAY) to {last} (ECOMMERCE_LAST_DAY)"
