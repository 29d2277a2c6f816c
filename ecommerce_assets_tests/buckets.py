"""An S3 server, to test without local folders."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.request import urlopen

import fsspec
import pytest


@contextmanager
def s3_bucket(name: str = "shop") -> Iterator[str]:
    """Yields the URI of an empty bucket; fsspec and delta-rs get the address of the server from the environment.

    The server is another process, because delta-rs holds Python's lock while it waits for an answer.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in {
                "AWS_ENDPOINT_URL": url,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
            }.items():
                patch.setenv(variable, value)
            # fsspec caches file systems, whose server can be that of another test.
            fsspec.filesystem("s3").clear_instance_cache()
            fsspec.filesystem("s3").mkdir(name)
            yield f"s3a://{name}"
            fsspec.filesystem("s3").clear_instance_cache()
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(url: str) -> None:
    for _ in range(300):
        with suppress(OSError), urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise AssertionError(f"no S3 server at {url} within 30 s")
