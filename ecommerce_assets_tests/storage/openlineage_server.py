"""An endpoint for OpenLineage events that answers well or badly, and the client's own model to hold them against."""

from __future__ import annotations

import json
import threading
import time
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attr
from openlineage.client import facet_v2
from openlineage.client.event_v2 import RunEvent
from openlineage.client.serde import Serde

from ecommerce_assets.storage import openlineage
from ecommerce_assets.storage.manifest import AuditResult, FileEntry, Input, Manifest
from ecommerce_assets.storage.tables import Column, TableSchema
from ecommerce_assets_tests.storage.test_lake import Warnings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN = "0d9f3a1e-5b1c-4c55-9f0b-2f6d1f2a9c11"
SHOP = "s3a://shop/data"
SCHEMA = TableSchema.of(
    Column("user_id", "id", "The user.", key=True), Column("recency", "int", "Days since the last event.")
)
PASSED = AuditResult(name="no_nulls", blocking=True, passed=True)
FAILED = AuditResult(name="unique_key", blocking=True, passed=False, message="2 of 3 rows repeat a user_id")


def made(**changes: Any) -> Manifest:
    """A version of user_features, made from two versions of cleaned_events."""
    fields: dict[str, Any] = {
        "asset": "user_features",
        "version": "20260101_120000_aaaaaaaa",
        "run_id": RUN,
        "code_version": "1",
        "created_at": NOON,
        "committed_at": NOON + timedelta(seconds=8),
        "seconds": 10.0,
        "spark_application_id": "local-17",
        "parameters": {"k": 5, "exclude": "purchased"},
        "inputs": (
            Input(asset="cleaned_events", version="v1", partitions=("2019-10-01", "2019-10-02"), fingerprint="f"),
            Input(asset="cleaned_events", version="v2", partitions=("2019-10-03",), fingerprint="g"),
        ),
        "columns": {"user_id": "bigint", "recency": "int"},
        "column_lineage": {"user_id": ("cleaned_events.user_id",), "recency": ("cleaned_events.event.time",)},
        "rows": 3,
        "bytes": 30,
        "files": (FileEntry(path="part-0.parquet", bytes=10), FileEntry(path="part-1.parquet", bytes=20)),
        "fingerprint": "f",
        "audits": (PASSED,),
    }
    return Manifest(**{**fields, **changes})


class Server(ThreadingHTTPServer):
    """Collects what is posted; `answer` says how it answers."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.posted: list[dict[str, Any]] = []
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.requests += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/api/v1/lineage"
                server.posted.append(body)
                answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def status(code: int) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
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


FACETS = {
    facet._get_schema(): facet
    for module in vars(facet_v2).values()
    if isinstance(module, types.ModuleType)
    for facet in vars(module).values()
    if isinstance(facet, type) and issubclass(facet, facet_v2.BaseFacet)
}


def structured(kind: Any, data: Any) -> Any:
    """The JSON as objects of the client's classes; fails on a field, type or kind of facet that those do not have."""
    if data is None:
        return None
    if isinstance(data, dict) and "_schemaURL" in data:
        assert issubclass(FACETS[data["_schemaURL"]], kind), f"{data['_schemaURL']} is no {kind.__name__}"
        kind = FACETS[data["_schemaURL"]]
    if isinstance(kind, type) and attr.has(kind):
        fields = {field.name: field for field in attr.fields(kind)}
        assert set(data) <= set(fields), f"{kind.__name__} has no {set(data) - set(fields)}"
        hints = typing.get_type_hints(kind)
        absent = {f.name: None for f in fields.values() if type(None) in typing.get_args(hints[f.name])}
        known = {name: value for name, value in (absent | data).items() if fields[name].init}
        return kind(**{fields[name].alias: structured(hints[name], value) for name, value in known.items()})
    origin, parameters = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        for choice in parameters:
            try:
                return structured(choice, data)
            except (AssertionError, TypeError, ValueError):
                continue
        raise AssertionError(f"{data} is none of {parameters}")
    if origin is list:
        return [structured(parameters[0], item) for item in data]
    if origin is dict:
        return {name: structured(parameters[1], value) for name, value in data.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    assert kind is Any or isinstance(data, kind), f"{data!r} is no {kind}"
    return data


def check(event: dict[str, Any]) -> dict[str, Any]:
    """The event, after it went through the client's classes and came back the same."""
    assert Serde.to_dict(structured(RunEvent, event)) == event
    assert event["schemaURL"].startswith("https://openlineage.io/spec/")
    return event


def sent(server: Server, warnings: Warnings, manifest: Manifest, **arguments: Any) -> list[dict[str, Any]]:
    openlineage.emit(manifest, SHOP, SCHEMA, warnings, **arguments)
    assert warnings == []
    return [check(event) for event in server.posted]
