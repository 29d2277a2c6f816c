"""Settings come from the environment; what cannot be used is named with its value and what is allowed."""

from __future__ import annotations

import json

import pytest

from ecommerce_assets.definitions import build_resources
from ecommerce_assets.settings import SAMPLE_DATA_DIR, SettingsError, load_settings


def test_defaults_are_the_shipped_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA_DIR", "FIRST_DAY", "LAST_DAY"):
        monkeypatch.delenv(f"ECOMMERCE_{name}", raising=False)
    settings = load_settings()
    assert settings.data_dir == SAMPLE_DATA_DIR
    assert str(settings.end_day) == "2019-12-29"
    assert (settings.driver_memory, settings.spark_master) == ("8g", "local[*]")


def test_environment_is_read_and_empty_means_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOMMERCE_DATA_DIR", "s3a://shop/data")
    monkeypatch.setenv("ECOMMERCE_LOOKBACK_DAYS", "90")
    monkeypatch.setenv("ECOMMERCE_LAST_DAY", "")
    settings = load_settings()
    assert (settings.data_dir, settings.lookback_days, settings.end_day) == ("s3a://shop/data", 90, None)


def test_settings_of_spark_reach_spark_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "spark.kubernetes.container.image": "shop/spark:4.3",
        "spark.jars.packages": "org.apache.hadoop:hadoop-aws:3.5.0",
        "spark.hadoop.fs.s3a.endpoint": "https://s3.example.com",
        "spark.archives": "environment.tar.gz#environment",
        "spark.sql.adaptive.enabled": False,
    }
    monkeypatch.setenv("ECOMMERCE_SPARK_MASTER", "k8s://https://host:6443")
    monkeypatch.setenv("ECOMMERCE_SPARK_CONFIG", json.dumps(told))
    monkeypatch.setenv("ECOMMERCE_SPARK_EVENT_LOG", "s3a://shop/events")
    settings = build_resources(load_settings())["spark"].settings()
    assert settings.items() >= {**told, "spark.sql.adaptive.enabled": "false"}.items(), "they win over our defaults"
    assert settings["spark.master"] == "k8s://https://host:6443"
    assert (settings["spark.eventLog.enabled"], settings["spark.eventLog.dir"]) == ("true", "s3a://shop/events")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FIRST_DAY", "1.10.2019", "YYYY-MM-DD"),
        ("FIRST_DAY", "0001-01-01", "greater than or equal to 1990-01-01"),
        ("LOOKBACK_DAYS", "0", "greater than or equal to 1"),
        ("DRIVER_MEMORY", "lots", "such as 8g"),
        ("ID_TYPE", "uuid", "'bigint' or 'string'"),
        ("SPARK_CONFIG", "{spark.ui.enabled: true}", "it is not JSON"),
    ],
)
def test_bad_values_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"ECOMMERCE_{name}", value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert f"ECOMMERCE_{name}='{value}'" in str(error.value)
    assert said in str(error.value)


def test_days_must_be_in_order() -> None:
    with pytest.raises(SettingsError, match="LAST_DAY=2019-01-01 lies before ECOMMERCE_FIRST_DAY=2019-10-01"):
        load_settings(last_day="2019-01-01")
