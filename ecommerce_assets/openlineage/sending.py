"""Sends what is recorded of a version as OpenLineage events, where the user configured the OpenLineage client.

Without a configuration nothing is sent, printed or imported. Whatever the endpoint does, a run neither fails nor waits
for long because of it. The entry point is `emit`; events.py makes the events.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.version import Version

VERSION_SECONDS = 5.0
"""Longest wait for all events of one version, whatever the transport."""
PAUSE_SECONDS = 600.0
"""After a failure this process sends nothing for so long."""

_paused_until = 0.0


def emit(
    version: Version,
    data_dir: str,
    table: TableSpec | None,
    warn: Callable[[str], object],
    description: str | None = None,
) -> None:
    """Send the events of a published or blocked version. Never raises.

    Parameters
    ----------
    data_dir
        Folder or bucket that holds `lake/` and `raw/`; datasets are named by their folders in it.
    table
        Describes the columns; None for models and documents.
    warn
        Called with one sentence where the events could not be delivered.
    description
        What the asset is, in words.
    """
    global _paused_until
    if not _configured() or time.monotonic() < _paused_until:
        return
    problems = [f"it took more than {VERSION_SECONDS:.0f} s"]

    def deliver() -> None:
        try:
            from ecommerce_assets.openlineage.events import run_events  # here: it takes most of a second

            _deliver(run_events(version, data_dir, table, description))
            problems.clear()
        except Exception as error:
            problems[:] = [f"{type(error).__name__}: {_first_line(error)}"]

    # A thread of its own because no timeout of a transport bounds all of it: a server may answer one byte a second, a
    # name may not resolve, a broker may keep its client waiting.
    thread = threading.Thread(target=deliver, name="openlineage", daemon=True)
    thread.start()
    thread.join(VERSION_SECONDS)
    if problems:
        _paused_until = time.monotonic() + PAUSE_SECONDS
        warn(
            f"The OpenLineage events of {version.asset} {version.version} were not all delivered ({problems[0]}): none "
            f"are sent for the next {PAUSE_SECONDS / 60:.0f} minutes."
        )


def _configured() -> bool:
    """The places where the client itself looks. Without any, it would fall back to printing events to a console."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return False
    if any(name.startswith(("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT")) for name in os.environ):
        return True
    paths = ("openlineage.yml", os.path.expanduser("~/.openlineage/openlineage.yml"))
    return any(os.access(path, os.R_OK) for path in paths)


def _deliver(events: Sequence[Any]) -> None:
    from openlineage.client import OpenLineageClient

    problems: list[str] = []
    log = logging.getLogger("openlineage.client.client")

    def keep(record: logging.LogRecord) -> bool:
        """The client logs a broken configuration with its traceback and goes on; here it becomes part of one line."""
        problems.extend([record.getMessage()] if record.levelno >= logging.WARNING else [])
        return record.levelno < logging.WARNING

    log.addFilter(keep)
    try:
        client = OpenLineageClient()
    finally:
        log.removeFilter(keep)
    chosen = (client.config.transport or {}).get("type") or os.environ.get("OPENLINEAGE_URL")
    if client.transport.kind == "console" and not chosen:
        raise ValueError(problems[0] if problems else "the configuration names no transport")
    settings: Any = getattr(client.transport, "config", None)
    if hasattr(settings, "retry"):
        # With the five of the client, a dead endpoint is noticed after a minute.
        settings.retry = {**settings.retry, "total": 1}
    for event in events:
        client.emit(event)
    # Only a closed client has sent all of it where the transport has a queue; what a queue lost, it only counts.
    delivered = client.close(VERSION_SECONDS)
    stats = getattr(client.transport, "get_stats", None)
    if not delivered or (stats and stats()["failed"]):
        raise ConnectionError("the transport lost events")


def _first_line(error: Exception) -> str:
    """Without the user and password that a URL may carry."""
    return re.sub("//[^/ ]*@", "//", next(iter(str(error).splitlines()), ""))
