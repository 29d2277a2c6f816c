"""Shortens log lines, and turns mistakes in commands into one sentence. `set_up` prepares a process of Dagster.

Dagster writes log lines and parses arguments itself, so this uses Python's log record factory and `sys.excepthook`. The
records in Dagster's database, which the UI shows, do not change.
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

INTERRUPTED = "Interrupted: the versions published so far stay, the other assets of the run were not made."
_INTERRUPTS = ("KeyboardInterrupt", "DagsterExecutionInterruptedError")
_EXPLAINED = ("NoEngineError",)
"""Errors whose message needs no traceback, because it says what to do."""
_SAIL_IS_FULL = re.compile("available for the total memory pool|Resources exhausted|spilling process has exceeded")
"""Parts of Sail's messages if memory or space for temporary files is exhausted."""
_NAMES_ASSET = re.compile(r"[a-z][a-z0-9_]*(,|:| \(| is blocked)")
"""Start of a message that names its asset, which can differ from the step."""


class RunRecord(logging.LogRecord):
    """A log record. If it is of a run, its message has the step, but neither the job nor the id of the run."""

    def getMessage(self) -> str:  # noqa: N802
        meta = getattr(self, "dagster_meta", None)
        # Records of sensors have metadata without a step.
        return message_of(meta) if meta is not None and "step_key" in meta else super().getMessage()


def message_of(meta: dict[str, Any]) -> str:
    """Returns the message of a log record in one line, with a traceback for unexpected errors.

    Parameters
    ----------
    meta
        Dagster's metadata of a log line: `step_key`, `orig_message`, `dagster_event`.
    """
    step, text, event = meta["step_key"], str(meta["orig_message"]), meta["dagster_event"]
    data = event.event_specific_data if event is not None else None
    failure = getattr(data, "user_failure_data", None)
    error = getattr(data, "error", None)
    if failure is not None and failure.description:
        text = failure.description
    elif error is not None and "Steps failed" not in text:  # for failed steps, another line has the reason
        explanation = INTERRUPTED if _find_cause(error, _INTERRUPTS) else _explanation(error)
        text = explanation or f"{text}\n{error.to_string()}"
    text = re.sub(r'^Execution of run for "\w+" failed\.', "The run failed.", text)
    return text if step is None or _NAMES_ASSET.match(text) else f"{step}: {text}"


def _find_cause(error: Any, names: Sequence[str]) -> Any:
    """Returns the first of the error and its causes whose class has one of these names; None if there is none."""
    return error if error is None or error.cls_name in names else _find_cause(error.cause, names)


def _explanation(error: Any) -> str | None:
    if cause := _find_cause(error, _EXPLAINED):
        return str(cause.message).partition(": ")[2].strip()
    if _SAIL_IS_FULL.search(error.to_string()):
        return (
            "The data do not fit in Sail's memory: increase ECOMMERCE_DRIVER_MEMORY, or use Spark, "
            "ECOMMERCE_SPARK_MASTER=local[*]."
        )
    return None


@contextmanager
def short_log_lines() -> Iterator[None]:
    """Shortens the log lines of runs in this process until the end of the block."""
    previous = logging.getLogRecordFactory()
    logging.setLogRecordFactory(RunRecord)
    try:
        yield
    finally:
        logging.setLogRecordFactory(previous)


def set_up(arguments: Sequence[str]) -> None:
    """Prepares the process of one of Dagster's commands; does nothing in other processes.

    Parameters
    ----------
    arguments
        The program and its arguments, as in `sys.argv`.
    """
    program = Path(arguments[0])
    if not {program.stem, program.parent.name} & {"dagster", "dg"}:
        return
    logging.setLogRecordFactory(RunRecord)
    if RUN_COMMANDS & set(arguments[1:4]):
        sys.excepthook = _print_error
        now = time.strftime("%Y-%m-%d %H:%M:%S %z")
        print(f"{now} - ecommerce_assets - INFO - Loading the assets.", file=sys.stderr, flush=True)


def _print_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    message = error_message(error)
    if message is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(message, file=sys.stderr)


def error_message(error: BaseException) -> str | None:
    """Returns one sentence for an error that ended a command; None for unexpected errors, which need a traceback."""
    name, text = type(error).__name__, str(error)
    if name in _INTERRUPTS:
        return INTERRUPTED
    if "Invalid partition range format" in text:
        return "Error: --partition-range must be the first and the last day, such as 2019-10-01...2019-12-29."
    if "containing the passed partition key" in text:
        return f"Error: --partition-range has a day that is not a daily partition: {_daily_partitions()}."
    if match := re.search(r"AssetKey\(s\) \[(.*?)\] were selected", text):
        similar = ", ".join(re.findall(r'\n\t\["(.*?)"\]', text))
        return f"Error: there is no asset {match[1]}" + (f"; did you mean {similar}?" if similar else ".")
    if name.startswith("DagsterInvalid") or name == "CheckError":
        return f"Error: {' '.join(text.removeprefix('Failure condition: ').split())}"
    return None


def _daily_partitions() -> str:
    from ecommerce_assets.settings import load_settings

    settings = load_settings()
    first, last = settings.first_day, settings.end_day or "yesterday"
    return f"they go from {first} (ECOMMERCE_FIRST_DAY) to {last} (ECOMMERCE_LAST_DAY)"
