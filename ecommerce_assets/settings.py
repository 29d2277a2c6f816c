"""The project's settings: environment variables `ECOMMERCE_*`, read once into one frozen object.

Only what belongs to the shop or the machine stands here (where the data is, which days, how ids are typed, Spark).
What an analyst would try out (k, rank, alpha …) is asset config, which the Launchpad shows.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any, Literal

import pydantic_settings
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "ECOMMERCE_"
SAMPLE_DATA_DIR = str(Path(__file__).resolve().parents[1] / "data")
FIRST_DAY = dt.date(2019, 10, 1)
EARLIEST_DAY = dt.date(1990, 1, 1)
"""What lies before is no event but the zero of a program: 1970-01-01, 0001-01-01."""
SAMPLE_LAST_DAY = dt.date(2019, 12, 29)


class SettingsError(ValueError):
    """A setting cannot be used; the message names the variable, its value and what is allowed."""


class Settings(BaseSettings):
    """Where the data lies, which days count, and what Spark may use. Variables are `ECOMMERCE_` + the field's name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    data_dir: str = Field(SAMPLE_DATA_DIR, description="Folder or bucket that holds raw/, lake/ and the rest.")
    first_day: dt.date = Field(FIRST_DAY, ge=EARLIEST_DAY, description="First daily partition, YYYY-MM-DD.")
    last_day: dt.date | None = Field(
        None, description="Last daily partition, YYYY-MM-DD; unset: up to yesterday (the sample: its own last day)."
    )
    lookback_days: int | None = Field(
        None, ge=1, description="Features and models read this many days, counted back from the newest; unset: all."
    )
    keep_versions: int = Field(3, ge=0, description="Superseded versions of an asset that are kept.")
    precomputed_features: bool = Field(
        True, description="Take feature tables from <data dir>/processed/parquet where there are any: true or false."
    )
    id_type: Literal["bigint", "string"] = Field("bigint", description="Type of product_id and user_id.")
    automation: bool = Field(
        True, description="New days start runs by themselves where `dagster dev` or the daemon runs: true or false."
    )
    quiet_seconds: int = Field(
        300, ge=0, description="A raw day without a fresh _SUCCESS counts once nothing in it changed for so long."
    )
    max_rejected_share: float = Field(
        0.2, ge=0, le=1, description="Share of a day's raw rows, 0 to 1; a day of which more is rejected is held back."
    )
    min_holdout_users: int = Field(
        100, ge=0, description="With fewer users in the holdout, als_evaluation warns and holds nothing back."
    )
    spark_master: str = Field("local[*]", description="Spark master URL.")
    driver_memory: str = Field("8g", pattern=r"^\d+[kmgt]$", description="Memory of Spark's driver, such as 8g.")
    executor_memory: str = Field("8g", pattern=r"^\d+[kmgt]$", description="Memory of a Spark executor, such as 8g.")
    spark_event_log: str | None = Field(
        None, description="Folder or bucket for Spark's event logs, which the history server reads; unset: none."
    )
    spark_config: dict[str, str | bool | int | float] = Field(
        default_factory=dict, description='More Spark settings as a JSON object, such as {"spark.executor.cores": "4"}.'
    )

    @model_validator(mode="before")
    @classmethod
    def _absolute_data_dir(cls, values: dict[str, Any]) -> dict[str, Any]:
        # A relative folder would mean something else in the daemon's run workers than in the shell that set it.
        data_dir = values.get("data_dir")
        if isinstance(data_dir, str) and "://" not in data_dir:
            values["data_dir"] = str(Path(data_dir).expanduser().resolve())
        return values

    @model_validator(mode="after")
    def _days_in_order(self) -> Settings:
        if self.last_day is not None and self.last_day < self.first_day:
            raise ValueError(f"{PREFIX}LAST_DAY={self.last_day} lies before {PREFIX}FIRST_DAY={self.first_day}")
        return self

    @property
    def end_day(self) -> dt.date | None:
        """The last partition, or None where the calendar goes on: the shipped sample knows its own end."""
        if self.last_day is None and self.data_dir == SAMPLE_DATA_DIR:
            return SAMPLE_LAST_DAY
        return self.last_day


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; keyword arguments win over it.

    Raises SettingsError: one sentence for each variable that cannot be used.
    """
    try:
        return Settings(**overrides)
    except pydantic_settings.SettingsError:
        value = os.environ.get(f"{PREFIX}SPARK_CONFIG")
        meaning = Settings.model_fields["spark_config"].description
        raise SettingsError(f"{PREFIX}SPARK_CONFIG={value!r} cannot be used: it is not JSON ({meaning})") from None
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(problem) for problem in error.errors())) from None


def _sentence(problem: Any) -> str:
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = str(problem["loc"][0])
    field = Settings.model_fields.get(name)
    meaning = f" ({field.description})" if field else ""
    return f"{PREFIX}{name.upper()}={problem['input']!r} cannot be used: {problem['msg']}{meaning}"
