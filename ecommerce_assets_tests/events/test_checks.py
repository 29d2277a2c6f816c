"""The checks of the raw folder, and the columns of the raw files of a day."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pyarrow as pa

from ecommerce_assets.events.checks import check_raw_days, missing_days, raw_events_checks
from ecommerce_assets.events.raw import find_raw_events
from ecommerce_assets_tests.helpers import event, write_day


def failed_checks(data_dir: Path) -> dict[str, str]:
    """The messages of the failed checks."""
    job = dg.Definitions(
        assets=[dg.AssetSpec("raw_events")], asset_checks=[raw_events_checks(str(data_dir))]
    ).resolve_implicit_global_asset_job_def()
    evaluations = job.execute_in_process().get_asset_check_evaluations()
    assert len(evaluations) == 2
    assert not any(check.blocking or check.severity == dg.AssetCheckSeverity.ERROR for check in evaluations)
    return {check.check_name: str(check.description) for check in evaluations if not check.passed}


def test_missing_and_empty_days_are_named(tmp_path: Path) -> None:
    assert failed_checks(tmp_path) == {}
    for day in ("2019-10-01", "2019-10-03"):
        write_day(tmp_path, day, [event(f"{day} 10:00:00")])
    (tmp_path / "raw" / "events" / "event_date=2019-10-04").mkdir()
    (tmp_path / "raw" / "events" / "event_date=2019-10-05").mkdir()
    (tmp_path / "raw" / "events" / "event_date=2019-10-05" / "part-0.parquet").touch()
    assert failed_checks(tmp_path) == {
        "days_have_files": "days without data (2): 2019-10-04, 2019-10-05",
        "no_missing_days": "missing days (1): 2019-10-02",
    }


def test_at_most_twenty_days_are_named() -> None:
    _, evaluation = check_raw_days(["2019-10-01", "2019-11-01"], {"2019-10-01", "2019-11-01"})
    message = str(evaluation.description)
    assert message.startswith("missing days (30): 2019-10-02, ")
    assert message.endswith("2019-10-21 …")


def test_missing_days_are_those_between_the_first_and_the_last() -> None:
    assert missing_days([]) == []
    assert missing_days(["2020-02-28", "no day", "2020-03-01"]) == ["2020-02-29"]


def test_columns_of_files_that_differ_have_both_types(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([event("2019-10-01 10:00:00", brand="b")])
    write_day(tmp_path, "2019-10-01", table, "a")
    other = table.drop_columns(["brand"])
    write_day(tmp_path, "2019-10-01", other.set_column(5, "price", pa.array(["1"])), "b")
    columns = find_raw_events(str(tmp_path), ["2019-10-01"]).columns("2019-10-01")
    assert (columns["price"], columns["brand"]) == ("double or string", "string")
