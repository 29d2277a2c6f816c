"""Fixtures of the tests of OpenLineage: an empty configuration, and servers that end with the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from ecommerce_assets.openlineage import sending
from ecommerce_assets_tests.openlineage.server import Server


@pytest.fixture
def unconfigured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Removes all configuration, also what the client itself wrote to os.environ."""

    def forget() -> None:
        for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
            del os.environ[name]

    before = {name: value for name, value in os.environ.items() if name.startswith("OPENLINEAGE")}
    forget()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sending, "_paused_until", 0.0)
    yield
    forget()
    os.environ.update(before)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Returns a function that starts a server and sets OPENLINEAGE_URL."""
    started: list[Server] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None], transport: str = "") -> Server:
        started.append(Server(answer))
        os.environ["OPENLINEAGE_URL"] = started[-1].url
        if transport:
            os.environ["OPENLINEAGE__TRANSPORT__TYPE"] = transport
            os.environ["OPENLINEAGE__TRANSPORT__URL"] = started[-1].url
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()
