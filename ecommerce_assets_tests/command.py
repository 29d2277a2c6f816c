"""The command `ecommerce-assets` in tests: in this process, or as a person calls it."""

from __future__ import annotations

import sys
from pathlib import Path

from ecommerce_assets.cli import main

PROGRAM = str(Path(sys.executable).with_name("ecommerce-assets"))


def call(*arguments: str) -> int:
    """The exit code of the command in this process."""
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    raise AssertionError("click ends every command")


def land(arguments: list[str]) -> int:
    """The exit code of `ecommerce-assets land` in this process."""
    return call("land", *arguments)
