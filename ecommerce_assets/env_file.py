"""Reads the files `.env` into the environment without overriding it. `read_env_files` is the entry point.

The files are those of the current folder and of the project's folder. settings.py defines what the variables mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values, load_dotenv

from ecommerce_assets.secret import HIDDEN, is_secret

PROJECT_DIR = Path(__file__).resolve().parents[1]
IS_CHECKOUT = (PROJECT_DIR / "pyproject.toml").is_file()
"""Whether this is a copy of the project; False after `pip install`, where PROJECT_DIR is `site-packages`."""
RUN = "uv run " if IS_CHECKOUT else ""
"""Prefix of the commands in messages."""


class EnvFileError(ValueError):
    """A line of `.env` cannot be used; the message has the file, the line and the line to write instead."""


@dataclass(frozen=True)
class EnvFileValue:
    """The value that a file has for a variable, and the file."""

    value: str
    file: Path


def env_files() -> list[Path]:
    """Returns the existing files. That of the current folder comes first and takes precedence, as in Dagster."""
    return [file for file in dict.fromkeys((Path.cwd() / ".env", PROJECT_DIR / ".env")) if file.is_file()]


def read_env_files(is_setting: Callable[[str], bool]) -> dict[str, EnvFileValue]:
    """Sets the missing variables of the environment from the files, and returns the values of the settings in them.

    A line with a setting has the form `NAME=${NAME:-value}`, which keeps the value of the environment: Dagster reads
    the `.env` of the current folder before any code of this package, and lets it override the environment.

    Parameters
    ----------
    is_setting
        Returns whether a variable is a setting, and must have this form.

    Raises
    ------
    EnvFileError
        If a line with a setting has another form.
    """
    values: dict[str, EnvFileValue] = {}
    for file in env_files():
        for name, text in dotenv_values(file, interpolate=False).items():
            if text is not None and is_setting(name):
                values.setdefault(name, EnvFileValue(_default_of(file, name, text), file))
        load_dotenv(file, override=False)
    return values


def _default_of(file: Path, name: str, text: str) -> str:
    start = f"${{{name}:-"
    if match := re.fullmatch(re.escape(start) + r"([^}]*)\}", text):
        return match[1]
    line = f"{name}={_redacted(name, text)}"
    if text.startswith(start):
        raise EnvFileError(
            f"{file}: {line} cannot be read, because the value ends at the first }}: write it without }} and ${{…}}"
        )
    value = dotenv_values(file)[name] or ""
    if value.startswith("{") and value.endswith("}"):
        value = value[1:-1].strip()
    raise EnvFileError(
        f"{file}: {line} would override the environment in Dagster's commands; "
        f"write {name}={start}{_redacted(name, value)}}}"
    )


def _redacted(name: str, text: str) -> str:
    return HIDDEN if is_secret(name, text) else text
