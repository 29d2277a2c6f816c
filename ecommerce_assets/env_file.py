"""`.env`: gives variables that the environment does not name, and never overrides one that it does.

Read are the file of the current folder and the one of the project, whichever folder a command is started from.
What the variables mean is not known here (see settings.py).
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
"""Whether this is a copy of the project; false after `pip install`, where PROJECT_DIR is the folder of all packages."""
RUN = "uv run " if IS_CHECKOUT else ""
"""How commands begin in messages."""


class EnvFileError(ValueError):
    """A line of `.env` would override the environment; the message names the file, the line and what to write."""


@dataclass(frozen=True)
class Given:
    """What a file says a variable is where the environment does not say it."""

    value: str
    file: Path


def env_files() -> list[Path]:
    """The files there are, the one of the current folder first: what it names wins, as in Dagster."""
    return [file for file in dict.fromkeys((Path.cwd() / ".env", PROJECT_DIR / ".env")) if file.is_file()]


def read_env_files(is_ours: Callable[[str], bool]) -> dict[str, Given]:
    """Fill the environment from the files, and return what they give for the variables that `is_ours` accepts.

    Such a line has the form `NAME=${NAME:-value}`. Dagster reads the `.env` of the current folder too, before any code
    of this package runs, and lets it override the environment; in this form a line gives back what is there.

    Raises EnvFileError where a line of ours has another form.
    """
    given: dict[str, Given] = {}
    for file in env_files():
        for name, text in dotenv_values(file, interpolate=False).items():
            if text is not None and is_ours(name):
                given.setdefault(name, Given(_fallback(file, name, text), file))
        load_dotenv(file, override=False)
    return given


def _shown(name: str, text: str) -> str:
    return HIDDEN if is_secret(name, text) else text


def _fallback(file: Path, name: str, text: str) -> str:
    start = f"${{{name}:-"
    if found := re.fullmatch(re.escape(start) + r"([^}]*)\}", text):
        return found[1]
    if text.startswith(start):
        raise EnvFileError(
            f"{file}: {name}={_shown(name, text)} cannot be read: the value ends at the first }} and can hold neither "
            f"}} nor ${{…}}"
        )
    value = dotenv_values(file)[name] or ""
    if value.startswith("{") and value.endswith("}"):
        value = value[1:-1].strip()
    raise EnvFileError(
        f"{file}: {name}={_shown(name, text)} would win over the environment in Dagster's commands; "
        f"write {name}={start}{_shown(name, value)}}}"
    )
