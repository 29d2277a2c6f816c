"""The project's settings: environment variables `ECOMMERCE_*`. `load_settings` reads them into one frozen object.

Settings describe the shop and the machine (data dir, days, type of ids, Spark). Parameters of models (k, rank,
alpha …) are asset config, which the Launchpad shows. env_file.py reads `.env`.
"""

from __future__ import annotations

import datetime as dt
import difflib
import functools
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import click
from dotenv import dotenv_values
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ecommerce_assets.env_file import IS_CHECKOUT, PROJECT_DIR, EnvFileError, env_files, read_env_files
from ecommerce_assets.secret import has_credentials, has_password, redacted

PREFIX = "ECOMMERCE_"
DEFAULT_DATA_DIR = str((PROJECT_DIR if IS_CHECKOUT else Path.cwd()) / "data")
DATA_DIR_HELP = "Data dir; by default ECOMMERCE_DATA_DIR, else the folder `data`."
FIRST_DAY = dt.date(2019, 10, 1)
EARLIEST_DAY = dt.date(1990, 1, 1)
"""Earlier dates are default values of programs, such as 1970-01-01 and 0001-01-01, and not dates of events."""
SAMPLE_LAST_DAY = dt.date(2019, 12, 29)
SAMPLE_MARKER = "_SAMPLE"
"""File in `raw/events` of a data dir that has the shipped sample."""

FIXED_SPARK_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
}
"""Spark settings that cannot be changed: other values would shift the days or drop rows."""

log = logging.getLogger(__name__)


class SettingsError(click.ClickException, ValueError):
    """A setting is invalid; the message has the variable, its value and the allowed values.

    Dagster's commands print a ClickException as one line, and their exit code is 1.
    """


def _parse_json(text: str) -> Any:
    """Returns a JSON value. The outer braces are optional, because a value in `.env` ends at the first `}`."""
    text = text.strip()
    try:
        return json.loads(text if text.startswith("{") else "{" + text + "}")
    except json.JSONDecodeError as error:
        raise ValueError(f"it must be JSON: {error.msg} at character {error.pos + 1}") from None


def _json_object(setting: Any) -> Any:
    if isinstance(setting, str):
        setting = _parse_json(setting)
    if not isinstance(setting, dict) or not all(isinstance(v, str | bool | int | float) for v in setting.values()):
        raise ValueError("it must be a JSON object with strings, numbers, true or false as values")
    return setting


class RfmBounds(BaseModel):
    """Bounds of the scores of customer_groups: four values each, in ascending order.

    A value reaches a bound if it is at least the bound. f_score is 1 plus the number of bounds that purchase_days
    reaches, m_score is 1 plus the number that monetary reaches, and r_score is 5 minus the number that purchase_recency
    reaches.

    Attributes
    ----------
    purchase_recency, purchase_days, monetary
        Bounds in days, days and the currency of the shop. None in the setting: they are computed from the buyers; empty
        if there are no buyers.
    """

    model_config = ConfigDict(frozen=True)

    purchase_recency: tuple[float, ...] | None = None
    purchase_days: tuple[float, ...] | None = None
    monetary: tuple[float, ...] | None = None

    def as_dict(self) -> dict[str, list[float]]:
        """Returns the bounds that are not None by column, as `ECOMMERCE_RFM_BOUNDS` takes them."""
        return self.model_dump(mode="json", exclude_none=True)


def _rfm_bounds(setting: Any) -> Any:
    if not isinstance(setting, str):
        return setting
    names, bounds = ", ".join(RfmBounds.model_fields), _parse_json(setting)
    for name, values in bounds.items():
        if name not in RfmBounds.model_fields:
            raise ValueError(f"the names must be among {names}, got {name!r}")
        numbers = isinstance(values, list) and all(type(v) in (int, float) and math.isfinite(v) for v in values)
        if not numbers or len(values) != 4 or sorted(values) != values:  # quintiles may be equal
            raise ValueError(f"{name} must be a list of four numbers in ascending order, got {json.dumps(values)}")
    return bounds


class Settings(BaseSettings):
    """The settings. The variable of a field is `ECOMMERCE_` and its name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    # The descriptions are also in the table of README.md and in error messages.
    data_dir: str = Field(DEFAULT_DATA_DIR, description="folder or bucket that holds `raw/` and `lake/`")
    first_day: dt.date = Field(FIRST_DAY, ge=EARLIEST_DAY, description="first daily partition, `YYYY-MM-DD`")
    last_day: dt.date | None = Field(
        None, description="last daily partition; unset: yesterday (for the sample, its last day)"
    )
    lookback_days: int | None = Field(
        None, ge=1, description="features and models read this many days, counted back from the newest; unset: all"
    )
    keep_versions: int = Field(3, ge=0, description="superseded versions of each asset that are kept")
    precomputed_features: bool = Field(True, description="use feature tables from `processed/parquet` if there are any")
    id_type: Literal["bigint", "string"] = Field(
        "bigint", description="type of `product_id` and `user_id`: `bigint` or `string`"
    )
    automation: bool = Field(True, description="new days start runs by themselves")
    quiet_seconds: int = Field(
        300,
        ge=0,
        description="a raw day without a fresh `_SUCCESS` is read after it has not changed for this many seconds",
    )
    max_rejected_share: float = Field(
        0.2, ge=0, le=1, description="a day is blocked if a larger share of its raw rows is rejected; 0 to 1"
    )
    freshness_hours: float = Field(
        25, gt=0, description="the UI shows `recommendations` as overdue once they are older than this many hours"
    )
    alert_url: str | None = Field(
        None,
        description="URL that receives a JSON POST when a run fails for good, and when a later run succeeds again",
    )
    deliver_to: str | None = Field(
        None, description="where runs deliver what they publish, such as `postgresql://host/shop`; unset: nowhere"
    )
    rfm_bounds: Annotated[RfmBounds | None, NoDecode, BeforeValidator(_rfm_bounds)] = Field(
        None,
        description="fixed bounds of the RFM scores as a JSON object, such as "
        '`{"purchase_days": [2, 3, 5, 10], "purchase_recency": [30, 60, 120, 240]}`; unset: computed from '
        "the quintiles of the buyers",
    )
    min_holdout_users: int = Field(
        100, ge=0, description="with fewer users in the holdout, `als_evaluation` warns and blocks nothing"
    )
    max_quality_loss: float = Field(
        0.05,
        ge=0,
        le=1,
        description="`als_evaluation` is blocked if the NDCG of the published lists clearly falls by a larger share; 0 "
        "to 1",
    )
    spark_master: str = Field("local[*]", description="Spark master, or `sail` for Sail, which needs no Java")
    driver_memory: str = Field("8g", pattern=r"^\d+[kmgt]$", description="memory of Spark's driver, or of Sail")
    executor_memory: str = Field("8g", pattern=r"^\d+[kmgt]$", description="memory of a Spark executor")
    spark_event_log: str | None = Field(
        None,
        description="folder or bucket for Spark's event logs, which its history server reads; every materialisation "
        "names its Spark application",
    )
    spark_config: Annotated[dict[str, str | bool | int | float], NoDecode, BeforeValidator(_json_object)] = Field(
        default_factory=dict,
        description='more Spark settings as a JSON object, such as `{"spark.executor.cores": "4"}`',
    )

    @model_validator(mode="before")
    @classmethod
    def _absolute_data_dir(cls, values: dict[str, Any]) -> dict[str, Any]:
        # A relative folder would be another folder in the daemon's run workers than in the shell.
        if isinstance(values.get("data_dir"), str):
            values["data_dir"] = _absolute(values["data_dir"], Path.cwd())
        return values

    @field_validator("alert_url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("it must begin with http:// or https://")
        return url

    @field_validator("deliver_to")
    @classmethod
    def _without_password(cls, address: str | None) -> str | None:
        if address is not None and has_password(address):
            raise ValueError("remove the password from the address, and set it in PGPASSWORD or ~/.pgpass")
        return address

    @field_validator("data_dir", "spark_event_log")
    @classmethod
    def _without_credentials(cls, uri: str | None) -> str | None:
        if has_credentials(uri):
            raise ValueError(
                "remove the credentials from the address, and set them in the environment variables of the storage"
            )
        return uri

    @field_validator("spark_config")
    @classmethod
    def _keeps_fixed_settings(cls, config: dict[str, Any]) -> dict[str, Any]:
        for name, value in FIXED_SPARK_SETTINGS.items():
            if str(config.get(name, value)).lower() != value.lower():
                raise ValueError(f"{name} must be {value}, got {config[name]!r}: it would change the tables")
        return config

    @model_validator(mode="after")
    def _days_in_order(self) -> Settings:
        if self.last_day is not None and self.last_day < self.first_day:
            raise ValueError(f"{PREFIX}LAST_DAY={self.last_day} is before {PREFIX}FIRST_DAY={self.first_day}")
        return self

    @property
    def end_day(self) -> dt.date | None:
        """The last daily partition: the setting, or the sample's last day; None: yesterday."""
        if self.last_day is None and self.data_dir == DEFAULT_DATA_DIR:
            is_sample = (Path(self.data_dir) / "raw" / "events" / SAMPLE_MARKER).exists()
            return SAMPLE_LAST_DAY if is_sample else None
        return self.last_day


def load_settings(**overrides: Any) -> Settings:
    """Returns the settings: from keyword arguments, else from the environment, else from `.env`.

    An unknown variable with the prefix `ECOMMERCE_` is an error in `.env`, and a warning in the environment, because
    it may belong to another program.

    Parameters
    ----------
    overrides
        Values by field of `Settings`.

    Raises
    ------
    SettingsError
        If a variable is invalid; the message has one sentence for each.
    """
    _check_names_in_files()
    try:
        values = read_env_files(lambda name: name.upper().startswith(PREFIX) or name == "DAGSTER_HOME")
    except EnvFileError as error:
        raise SettingsError(str(error)) from None
    files = {name: entry.file for name, entry in values.items() if os.environ.get(name) == entry.value}
    warn_of_unknown()
    if DATA_DIR in files:
        overrides = {"data_dir": _absolute(os.environ[DATA_DIR], files[DATA_DIR].parent), **overrides}
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("; ".join(_message(details, files) for details in error.errors())) from None


def variable(field: str) -> str:
    """Returns the environment variable of a field of Settings."""
    return PREFIX + field.upper()


DATA_DIR = variable("data_dir")


def _absolute(folder: str, base: Path) -> str:
    return folder if "://" in folder else str((base / Path(folder).expanduser()).resolve())


def _check_names_in_files() -> None:
    for file in env_files():
        for name in dotenv_values(file, interpolate=False):
            if problem := _unknown(name):
                raise SettingsError(f"{file}: {problem}")


@functools.cache  # once in a process
def warn_of_unknown() -> None:
    """Warns of variables with the prefix `ECOMMERCE_` that are not settings; suggests the most similar name."""
    for name in os.environ:
        if problem := _unknown(name):
            log.warning("%s; it is ignored.", problem)


def _unknown(name: str) -> str | None:
    if not name.upper().startswith(PREFIX):
        return None
    field = name[len(PREFIX) :].lower()
    if field in Settings.model_fields:
        return None
    similar = difflib.get_close_matches(field, Settings.model_fields, n=1)
    return f"{name} is not a setting of this project" + (f" (did you mean {variable(similar[0])}?)" if similar else "")


_REQUIREMENTS = {
    "int_parsing": "it must be a whole number",
    "int_parsing_size": "it must be a whole number",
    "float_parsing": "it must be a number",
    "bool_parsing": "it must be true or false",
    "date_parsing": "it must be a date such as 2019-10-01",
    "date_from_datetime_parsing": "it must be a date such as 2019-10-01",
    "date_from_datetime_inexact": "it must be a date such as 2019-10-01",
    "literal_error": "it must be {expected}",
    "greater_than_equal": "it must be {ge} or more",
    "less_than_equal": "it must be {le} or less",
    "greater_than": "it must be more than {gt}",
    "string_pattern_mismatch": "it must be a whole number with the unit k, m, g or t, such as 8g",
}
"""Requirement by pydantic's type of error; for other types, pydantic's message is used."""


def _message(details: Any, files: Mapping[str, Path]) -> str:
    """Returns one of pydantic's errors as a sentence, with the file if the value is from one."""
    reason = str(details["msg"]).removeprefix("Value error, ")
    if not details["loc"]:
        return reason + "".join(f"; {name} is from {file}" for name, file in files.items() if name in reason)
    field = str(details["loc"][0])
    name = variable(field)
    if details["type"] in _REQUIREMENTS:
        bounds = {key: str(value).removesuffix(".0") for key, value in details.get("ctx", {}).items()}
        reason = _REQUIREMENTS[details["type"]].format(**bounds)
    meaning = f" ({Settings.model_fields[field].description})" if field in Settings.model_fields else ""
    source = f" in {files[name]}" if name in files else ""
    return f"{name}={redacted(name, details['input'])}{source} cannot be used: {reason}{meaning}"
