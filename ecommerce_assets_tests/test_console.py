"""What people read in a shell: log lines of runs, and sentences about mistakes."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._cli.asset import asset_materialize_command

from ecommerce_assets.console import RunRecord, sentence_of, short_log_lines
from ecommerce_assets.settings import DEFAULT_DATA_DIR


def run_and_log(work: object, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The console's lines of a job with one op, each without its time."""

    @dg.op
    def user_features(context: dg.OpExecutionContext) -> None:
        work(context)  # type: ignore[operator]

    @dg.job
    def job() -> None:
        user_features()

    with short_log_lines(), dg.DagsterInstance.ephemeral(settings={"python_logs": {"python_log_level": "INFO"}}) as own:
        job.execute_in_process(instance=own, raise_on_error=False)
    return [line.partition(" - ")[2] for line in capfd.readouterr().err.splitlines()]


def test_a_line_names_the_step_once_and_neither_the_job_nor_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    def work(context: dg.OpExecutionContext) -> None:
        context.log.info("user_features (3 of 14): 3,930 rows")
        context.log.warning("Two days have no events.")

    assert run_and_log(work, capfd) == [
        "dagster - INFO - user_features (3 of 14): 3,930 rows",
        "dagster - WARNING - user_features: Two days have no events.",
    ]


def test_lines_of_sensors_are_left_as_they_are() -> None:
    record = RunRecord("dagster", logging.INFO, "", 0, "Nothing new: %d days.", (3,), None)
    record.dagster_meta = {"sensor_name": "new_event_partitions"}
    assert record.getMessage() == "Nothing new: 3 days."


def test_a_failure_with_a_description_is_that_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    def work(context: dg.OpExecutionContext) -> None:
        raise dg.Failure("user_features is blocked by no_nulls.")

    lines = run_and_log(work, capfd)
    assert lines[0] == "dagster - ERROR - user_features is blocked by no_nulls."
    assert [line for line in lines if line] == [
        lines[0],
        "dagster - ERROR - The run failed. Steps failed: ['user_features'].",
    ]


def test_an_unexpected_error_has_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def work(context: dg.OpExecutionContext) -> None:
        raise ZeroDivisionError("by hand")

    run = run_and_log(work, capfd)
    assert run[0].startswith("dagster - ERROR - user_features: Execution of step")


def test_what_dagster_records_stays_as_it_is() -> None:
    with short_log_lines():
        record = logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "%s rows", (3,), None)
    assert (record.msg, record.args, record.getMessage()) == ("%s rows", (3,), "3 rows")
    assert logging.getLogRecordFactory() is logging.LogRecord


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--select", "cleaned_events,rejected_events", "--partition-range", "2019-10-01..2019-10-02"],
            "Error: --partition-range takes the first and the last day with three dots, 2019-10-01...2019-12-29.",
        ),
        (
            ["--select", "cleaned_events,rejected_events", "--partition-range", "2019-10-01...2020-10-02"],
            "Error: a day that was asked for is not a daily partition; these go from 2019-10-01 (ECOMMERCE_FIRST_DAY) "
            "to 2019-12-29 (ECOMMERCE_LAST_DAY).",
        ),
        (["--select", "user_featurs"], "Error: there is no asset 'user_featurs'; did you mean user_features?"),
        (["--select", "cleaned_events"], "Error: Asset has partitions, but no '--partition' option was provided"),
    ],
)
def test_a_mistake_in_the_command_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("ECOMMERCE_DATA_DIR", DEFAULT_DATA_DIR)
    done = CliRunner().invoke(asset_materialize_command, ["-m", "ecommerce_assets.definitions", *arguments])
    assert done.exception is not None
    assert sentence_of(done.exception) == sentence


@pytest.mark.trial
def test_a_command_prints_that_sentence_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").touch()
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "dagster", "asset", "materialize"]
    command += ["-m", "ecommerce_assets.definitions", "--select", "user_featurs"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    first, last = done.stderr.splitlines()[-2:]
    assert first.endswith(" - ecommerce_assets - INFO - Loading the assets.")
    assert last == "Error: there is no asset 'user_featurs'; did you mean user_features?"
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_an_error_that_no_sentence_explains_keeps_its_traceback() -> None:
    assert sentence_of(ZeroDivisionError()) is None
    assert sentence_of(KeyboardInterrupt()) == (
        "Interrupted: versions that were published stay, other assets of the run were not made."
    )
