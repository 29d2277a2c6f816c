"""A server for OpenLineage events with configurable answers, and a version to send to it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.version import CheckResult, Input, Stats, Version

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN = "0d9f3a1e-5b1c-4c55-9f0b-2f6d1f2a9c11"
SHOP = "s3a://shop/data"
TABLE = TableSpec.of(
    ColumnSpec("user_id", "id", "The user.", key=True), ColumnSpec("recency", "int", "Days since the last event.")
)
PASSED = CheckResult(name="no_nulls", blocking=True, passed=True)
FAILED = CheckResult(name="unique_key", blocking=True, passed=False, message="2 of 3 rows repeat a user_id")


def a_version(**changes: Any) -> Version:
    """Returns a version of user_features with two versions of cleaned_events as inputs."""
    fields: dict[str, Any] = {
        "asset": "user_features",
        "version": "12",
        "folder": "20260101_120000_aaaaaaaa",
        "run_id": RUN,
        "code_version": "1",
        "created_at": NOON,
        "committed_at": NOON + timedelta(seconds=8),
        "seconds": 10.0,
        "spark_application_id": "local-17",
        "parameters": {"k": 5, "exclude": "purchased"},
        "inputs": (
            Input(asset="cleaned_events", version="1", partitions=("2019-10-01", "2019-10-02"), fingerprint="f"),
            Input(asset="cleaned_events", version="2", partitions=("2019-10-03",), fingerprint="g"),
        ),
        "columns": {"user_id": "bigint", "recency": "int"},
        "column_lineage": {"user_id": ("cleaned_events.user_id",), "recency": ("cleaned_events.event.time",)},
        "stats": Stats(rows=3, bytes=30),
        "checks": (PASSED,),
    }
    return Version(**{**fields, **changes})


class Server(ThreadingHTTPServer):
    """Collects the events that are posted to the path; `answer` sends the answer."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None], path: str = "/api/v1/lineage") -> None:
        self.posted: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == path
                server.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def status(code: int, after: float = 0.0) -> Callable[[BaseHTTPRequestHandler], None]:
    """Returns a function that answers with this status after some seconds."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(after)
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def silence(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(60)


def one_byte_at_a_time(handler: BaseHTTPRequestHandler) -> None:
    try:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        pass
