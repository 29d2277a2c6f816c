"""Calls the command `ecommerce-assets` in this process; `PROGRAM` is for calls in another process."""

from __future__ import annotations

import sys
from pathlib import Path

from ecommerce_assets.cli import main

PROGRAM = str(Path(sys.executable).with_name("ecommerce-assets"))


def call(*arguments: str) -> int:
    """Calls the command; returns its exit code."""
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    raise AssertionError("click ends every command")


def land(arguments: list[str]) -> int:
    """Calls `ecommerce-assets land`; returns its exit code."""
    return call("land", *arguments)
