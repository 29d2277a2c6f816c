"""Recognises secret settings, so that their values never appear in the UI, a log, an error or the process list."""

from __future__ import annotations

import re

HIDDEN = "(hidden)"
"""Replaces the value of a secret setting."""

# Anyone who knows the URL of a webhook can post to it.
_NAME = re.compile(r"key|secret|token|passw|credential|_url$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/\s]*@")
_PASSWORD = re.compile(r"://[^/\s]*:[^/\s]*@|[?&]\w*password=", re.IGNORECASE)


def is_secret(name: str, value: object = "") -> bool:
    """Returns whether a setting is secret, by its name or by credentials in its value.

    A text of several Spark settings is secret if the name of one of them is.

    >>> is_secret("spark.hadoop.fs.s3a.secret.key"), is_secret("endpoint", "https://me:abc@host/"), is_secret("k", "v")
    (True, True, False)
    """
    names = f"{name} {value}" if name.lower().endswith("spark_config") else name
    return _NAME.search(names) is not None or has_credentials(value)


def has_credentials(value: object) -> bool:
    """Returns whether a text contains a URL with a user or a password."""
    return _CREDENTIALS.search(str(value)) is not None


def has_password(address: str) -> bool:
    """Returns whether an address contains a password; a user name alone is not one.

    >>> has_password("postgresql://me:abc@host/shop"), has_password("postgresql://me@host:5432/shop")
    (True, False)
    """
    return _PASSWORD.search(address) is not None


def redacted(name: str, value: object) -> str:
    """Returns the repr of a setting's value; `HIDDEN` if the setting is secret."""
    return HIDDEN if is_secret(name, value) else repr(value)
