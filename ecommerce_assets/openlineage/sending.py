"""Sends the metadata of versions as OpenLineage events if the OpenLineage client is configured. Use `emit`.

Without a configuration nothing is sent, printed or imported. A broken endpoint never fails a run, and delays it by at
most a few seconds. events.py creates the events.
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
"""Maximum wait for all events of one version."""

PAUSE_SECONDS = 600.0
"""After a failure this process sends nothing for this time."""

_paused_until = 0.0


def emit(
    version: Version,
    data_dir: str,
    table: TableSpec | None,
    warn: Callable[[str], object],
    description: str | None = None,
) -> None:
    """Sends the events of a published or blocked version. Never raises.

    Parameters
    ----------
    data_dir
        Folder or bucket that holds `lake/` and `raw/`, from which the names of the datasets are derived.
    table
        Describes the columns; None for models and documents.
    warn
        Receives one sentence if the events could not be delivered.
    description
        Description of the asset.
    """
    global _paused_until
    if not _configured() or time.monotonic() < _paused_until:
        return
    problems = [f"it took more than {VERSION_SECONDS:.0f} s"]

    def deliver() -> None:
        try:
            from ecommerce_assets.openlineage.events import run_events  # a slow import

            _deliver(run_events(version, data_dir, table, description))
            problems.clear()
        except Exception as error:
            problems[:] = [f"{type(error).__name__}: {_first_line(error)}"]

    # In a thread, because a transport's timeout does not limit everything: a server may send one byte per second, or a
    # broker may block its client.
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
    """Returns whether the client has a configuration. Without one it would print events to the console."""
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
        """Collects the client's warnings, which it would log with a traceback."""
        problems.extend([record.getMessage()] if record.levelno >= logging.WARNING else [])
        return record.levelno < logging.WARNING

    log.addFilter(keep)
    try:
        client = OpenLineageClient()
    finally:
        log.removeFilter(keep)
    chosen = (client.config.transport or {}).get("type") or os.environ.get("OPENLINEAGE_URL")
    if client.transport.kind == "console" and not chosen:
        raise ValueError(problems[0] if problems else "the configuration has no transport")
    settings: Any = getattr(client.transport, "config", None)
    if hasattr(settings, "retry"):
        # With the client's default of five, a dead endpoint is noticed after a minute.
        settings.retry = {**settings.retry, "total": 1}
    for event in events:
        client.emit(event)
    # A transport with a queue has sent everything only after close, and only counts lost events.
    delivered = client.close(VERSION_SECONDS)
    stats = getattr(client.transport, "get_stats", None)
    if not delivered or (stats and stats()["failed"]):
        raise ConnectionError("the transport lost events")


def _first_line(error: Exception) -> str:
    """Returns the first line of an error without the user and password of a URL."""
    return re.sub("//[^/ ]*@", "//", next(iter(str(error).splitlines()), ""))
