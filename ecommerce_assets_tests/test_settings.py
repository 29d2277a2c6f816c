"""Settings from the environment, and the messages for invalid values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ecommerce_assets import settings as settings_module
from ecommerce_assets.definitions import build_defs
from ecommerce_assets.settings import (
    DEFAULT_DATA_DIR,
    SAMPLE_MARKER,
    Settings,
    SettingsError,
    load_settings,
    warn_of_unknown,
)
from ecommerce_assets.spark.resource import SparkResource, spark_options


def test_the_default_data_dir_has_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA_DIR", "FIRST_DAY", "LAST_DAY"):
        monkeypatch.setenv(f"ECOMMERCE_{name}", "")
    settings = load_settings()
    assert settings.data_dir == DEFAULT_DATA_DIR
    assert str(settings.end_day) == "2019-12-29"
    assert (settings.driver_memory, settings.spark_master) == ("8g", "local[*]")


def test_the_last_day_is_that_of_the_sample_only_if_the_data_dir_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "DEFAULT_DATA_DIR", str(tmp_path))
    assert load_settings(data_dir=str(tmp_path)).end_day is None
    (tmp_path / "raw" / "events").mkdir(parents=True)
    (tmp_path / "raw" / "events" / SAMPLE_MARKER).touch()
    assert str(load_settings(data_dir=str(tmp_path)).end_day) == "2019-12-29"


def test_variables_are_read_and_empty_ones_are_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOMMERCE_DATA_DIR", "s3a://shop/data")
    monkeypatch.setenv("ECOMMERCE_LOOKBACK_DAYS", "90")
    monkeypatch.setenv("ECOMMERCE_LAST_DAY", "")
    settings = load_settings()
    assert (settings.data_dir, settings.lookback_days, settings.end_day) == ("s3a://shop/data", 90, None)


def test_spark_config_overrides_our_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "spark.kubernetes.container.image": "shop/spark:4.3",
        "spark.jars.packages": "org.apache.hadoop:hadoop-aws:3.5.0",
        "spark.hadoop.fs.s3a.endpoint": "https://s3.example.com",
        "spark.archives": "environment.tar.gz#environment",
        "spark.sql.adaptive.enabled": False,
    }
    monkeypatch.setenv("ECOMMERCE_SPARK_MASTER", "k8s://https://host:6443")
    monkeypatch.setenv("ECOMMERCE_SPARK_CONFIG", json.dumps(config))
    monkeypatch.setenv("ECOMMERCE_SPARK_EVENT_LOG", "s3a://shop/events")
    settings = SparkResource(**spark_options(load_settings())).settings()
    assert settings.items() >= {**config, "spark.sql.adaptive.enabled": "false"}.items()
    assert settings["spark.master"] == "k8s://https://host:6443"
    assert (settings["spark.eventLog.enabled"], settings["spark.eventLog.dir"]) == ("true", "s3a://shop/events")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FIRST_DAY", "1.10.2019", "it must be a date such as 2019-10-01"),
        ("FIRST_DAY", "20191001", "it must be a date such as 2019-10-01"),
        ("FIRST_DAY", "0001-01-01", "it must be 1990-01-01 or more"),
        ("LAST_DAY", "2019-02-30", "it must be a date such as 2019-10-01"),
        ("LOOKBACK_DAYS", "0", "it must be 1 or more"),
        ("KEEP_VERSIONS", "three", "it must be a whole number"),
        ("KEEP_VERSIONS", "2.5", "it must be a whole number"),
        ("MAX_REJECTED_SHARE", "20%", "it must be a number"),
        ("MAX_REJECTED_SHARE", "20", "it must be 1 or less"),
        ("MAX_REJECTED_SHARE", "nan", "it must be 1 or less"),
        ("FRESHNESS_HOURS", "0", "it must be more than 0"),
        ("ALERT_URL", "hooks.example.com", "it must begin with http:// or https://"),
        ("AUTOMATION", "never", "it must be true or false"),
        ("DRIVER_MEMORY", "lots", "such as 8g"),
        ("ID_TYPE", "uuid", "it must be 'bigint' or 'string'"),
        ("SPARK_CONFIG", "{spark.ui.enabled: true}", "it must be JSON"),
        ("SPARK_CONFIG", '{"spark.ui.enabled": [true]}', "it must be a JSON object with"),
        ("SPARK_CONFIG", "[]", "it must be JSON"),
        ("SPARK_CONFIG", '{"spark.sql.session.timeZone": "Asia/Tokyo"}', "spark.sql.session.timeZone must be UTC"),
        ("SPARK_CONFIG", '{"spark.sql.ansi.enabled": false}', "spark.sql.ansi.enabled must be true, got False"),
    ],
)
def test_an_invalid_value_is_an_error_with_variable_value_and_allowed_values(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"ECOMMERCE_{name}", value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    meaning = Settings.model_fields[name.lower()].description
    start, rest = str(error.value).split(" cannot be used: ")
    assert start == f"ECOMMERCE_{name}=" + ("(hidden)" if name == "ALERT_URL" else f"'{value}'")
    assert message in rest
    assert rest.endswith(f" ({meaning})")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALERT_URL", "ftp://me:hunter2@hooks.example.com"),
        ("DATA_DIR", "s3a://me:hunter2@shop/data"),
        ("SPARK_CONFIG", '{"spark.hadoop.fs.s3a.secret.key": "hunter2"'),
        ("SPARK_CONFIG", '{"spark.hadoop.fs.s3a.secret.key": "hunter2", "spark.sql.session.timeZone": "CET"}'),
    ],
)
def test_errors_hide_secrets(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ECOMMERCE_{name}", value)
    with pytest.raises(SettingsError, match=rf"ECOMMERCE_{name}=\(hidden\)") as error:
        load_settings()
    assert "hunter2" not in str(error.value)


def test_secrets_reach_spark_but_not_the_config_that_the_ui_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOMMERCE_SPARK_CONFIG", '{"spark.hadoop.fs.s3a.secret.key": "hunter2", "a.b": "c"}')
    hidden = {"spark.hadoop.fs.s3a.secret.key": "(hidden)", "a.b": "c"}
    options = spark_options(load_settings())
    assert options["spark_config"] == hidden
    assert SparkResource(**options).settings()["spark.hadoop.fs.s3a.secret.key"] == "hunter2"
    job = build_defs(load_settings()).resolve_implicit_global_asset_job_def()
    defaults = [resource.config_schema.default_value for resource in job.resource_defs.values()]
    assert str(hidden) in str(defaults)
    assert "hunter2" not in str(defaults)


def test_days_must_be_in_order() -> None:
    with pytest.raises(SettingsError, match="LAST_DAY=2019-01-01 is before ECOMMERCE_FIRST_DAY=2019-10-01"):
        load_settings(last_day="2019-01-01")


def test_an_unknown_variable_in_the_environment_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ECOMMERCE_DATADIR", "/srv/shop")
    monkeypatch.setenv("ECOMMERCE_API_KEY", "of another program")
    warn_of_unknown.cache_clear()
    load_settings()
    assert caplog.messages == [
        "ECOMMERCE_DATADIR is not a setting of this project (did you mean ECOMMERCE_DATA_DIR?); it is ignored.",
        "ECOMMERCE_API_KEY is not a setting of this project; it is ignored.",
    ]
