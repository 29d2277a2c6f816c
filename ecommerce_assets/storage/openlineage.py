"""Whether, when and for how long lineage events are sent; what is in them is openlineage_events.py's business.

Nothing is sent, printed or imported unless the user configured the OpenLineage client by its own means. Whatever the
endpoint does, a run neither fails nor waits for long because of it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ecommerce_assets.storage.manifest import Manifest
from ecommerce_assets.storage.tables import TableSchema

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.transport import Transport

REQUEST_SECONDS = 2.0
"""Longest wait for one HTTP answer."""
RETRY_AFTER_SECONDS = 0.5
"""Each event is tried a second time after this, so that one lost connection costs no lineage."""
VERSION_SECONDS = 5.0
"""Longest wait for all events of one version, whatever the transport."""
RUN_SECONDS = 15.0
"""Longest wait in one run, also where every version just about gets through."""
PAUSE_SECONDS = 600.0
"""After a failure this process sends nothing for the rest of the run, and at least for so long."""


def emit(
    manifest: Manifest,
    data_dir: str,
    schema: TableSchema | None,
    warn: Callable[[str], object],
    description: str | None = None,
) -> None:
    """Send what a written version's manifest says as OpenLineage events, if the user wants it. Never raises.

    Parameters
    ----------
    data_dir
        Folder or bucket that holds `lake/` and `raw/`; datasets are named by their folders in it.
    schema
        Describes the columns; None for models and documents.
    warn
        Called with one sentence where the events could not be delivered, once per run at most.
    description
        What the asset is, in words.
    """
    try:
        if not _configured():
            return
        seconds = _endpoint.seconds_left(manifest.run_id)
        if seconds <= 0:
            return
        problem = _send(manifest, data_dir, schema, description, seconds)
    except Exception as error:
        problem = _reason(error)
    if problem:
        _endpoint.give_up()
        warn(
            f"The OpenLineage events of {manifest.asset} {manifest.version} were not all delivered ({problem}): "
            f"no more are sent in this run, nor in the next {PAUSE_SECONDS / 60:.0f} minutes."
        )


def _configured() -> bool:
    """The places where the client itself looks. Without any, it would fall back to printing events to a console."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return False
    if any(os.environ.get(name) for name in ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG")):
        return True
    if any(name.startswith("OPENLINEAGE__TRANSPORT") for name in os.environ):
        return True
    paths = ("openlineage.yml", os.path.expanduser("~/.openlineage/openlineage.yml"))
    return any(os.path.isfile(path) and os.access(path, os.R_OK) for path in paths)


@dataclass
class _Endpoint:
    """What this process still invests in the endpoint: some seconds per run, none for a while after a failure."""

    run_id: str = ""
    seconds: float = RUN_SECONDS
    closed_until: float = 0.0

    def seconds_left(self, run_id: str) -> float:
        if time.monotonic() < self.closed_until:
            return 0.0
        if run_id != self.run_id:
            self.run_id, self.seconds = run_id, RUN_SECONDS
        return self.seconds

    def give_up(self) -> None:
        self.seconds, self.closed_until = 0.0, time.monotonic() + PAUSE_SECONDS


_endpoint = _Endpoint()


def _send(
    manifest: Manifest, data_dir: str, schema: TableSchema | None, description: str | None, seconds: float
) -> str | None:
    """What went wrong, or None.

    The delivery has a thread of its own because no timeout of a transport bounds all of it: a server may answer one
    byte a second, a name may not resolve, a broker may keep its client waiting.
    """
    from ecommerce_assets.storage.openlineage_events import run_events  # here: it takes most of a second

    events = run_events(manifest, data_dir, schema, description)
    outcome: list[str | None] = []

    def deliver() -> None:
        try:
            _deliver(events)
            outcome.append(None)
        except Exception as error:
            outcome.append(_reason(error))

    started, seconds = time.monotonic(), min(seconds, VERSION_SECONDS)
    thread = threading.Thread(target=deliver, name="openlineage", daemon=True)
    thread.start()
    thread.join(seconds)
    _endpoint.seconds -= time.monotonic() - started
    return outcome[0] if outcome else f"it took more than {seconds:.0f} s"


def _deliver(events: Sequence[RunEvent]) -> None:
    # A client for each version, closed after it: only then is all of it sent where the transport has a queue.
    client = _client()
    try:
        for event in events:
            try:
                client.emit(event)
            except Exception:
                time.sleep(RETRY_AFTER_SECONDS)
                client.emit(event)
    finally:
        delivered = client.close(VERSION_SECONDS)
    # A transport with a queue raises nothing, but counts what it lost.
    stats = getattr(client.transport, "get_stats", None)
    lost = stats()["failed"] if stats else 0
    if lost:
        raise ConnectionError(f"the transport lost {lost} of {len(events)} events")
    if not delivered:
        raise TimeoutError("the transport could not empty its queue")


def _client() -> Any:
    """The client as the user configured it. Raises where it would print events for want of a usable configuration."""
    from openlineage.client import OpenLineageClient

    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            said.append(record.getMessage())
        return record.levelno < logging.WARNING

    # The client logs a broken openlineage.yml with its traceback and goes on; here it belongs into the one sentence.
    log = logging.getLogger("openlineage.client.client")
    log.addFilter(keep)
    try:
        client = OpenLineageClient()
        chosen = (client.config.transport or {}).get("type") or os.environ.get("OPENLINEAGE_URL")
    finally:
        log.removeFilter(keep)
    if client.transport.kind == "console" and not chosen:
        raise ValueError(said[0] if said else "the configuration names no transport")
    _limit(client.transport)
    return client


def _limit(transport: Transport) -> None:
    """Short timeouts, and no retries but ours: with the client's own, a silent server holds up an event for 30 s."""
    from openlineage.client.transport import HttpTransport

    if isinstance(transport, HttpTransport):
        transport.timeout = min(transport.timeout, REQUEST_SECONDS)
        transport.config.retry = {"total": 0}
    for inner in (*getattr(transport, "transports", ()), getattr(transport, "transport", None)):
        if inner is not None:
            _limit(inner)


def _reason(error: Exception) -> str:
    """The error in one line, without the user and password that a URL may carry."""
    first_line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {re.sub('//[^/ ]*@', '//', first_line)}".removesuffix(": ")
