"""Log lines of runs in a shell, and sentences for mistakes in commands."""

import logging
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import dagster as dg
import pytest

from ecommerce_assets.console import RunRecord, error_message, set_up, short_log_lines
from ecommerce_assets.settings import DEFAULT_DATA_DIR


def log_lines(work: Callable[[dg.OpExecutionContext], None], capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Returns the lines of a run with one op, without their times."""

    @dg.op
    def user_features(context: dg.OpExecutionContext) -> None:
        work(context)

    @dg.job
    def job() -> None:
        user_features()

    settings = {"python_logs": {"python_log_level": "INFO"}}
    with short_log_lines(), dg.DagsterInstance.ephemeral(settings=settings) as instance:
        job.execute_in_process(instance=instance, raise_on_error=False)
    assert logging.getLogRecordFactory() is logging.LogRecord
    return [line.partition(" - ")[2] for line in capfd.readouterr().err.splitlines()]


def test_a_line_has_the_step_once_and_neither_the_job_nor_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    def work(context: dg.OpExecutionContext) -> None:
        context.log.info("user_features (3 of 14): 3,930 rows")
        context.log.warning("Two days have no events.")

    assert log_lines(work, capfd) == [
        "dagster - INFO - user_features (3 of 14): 3,930 rows",
        "dagster - WARNING - user_features: Two days have no events.",
    ]


def test_a_failure_is_its_description(capfd: pytest.CaptureFixture[str]) -> None:
    def work(context: dg.OpExecutionContext) -> None:
        raise dg.Failure("user_features is blocked by no_nulls.")

    assert [line for line in log_lines(work, capfd) if line] == [
        "dagster - ERROR - user_features is blocked by no_nulls.",
        "dagster - ERROR - The run failed. Steps failed: ['user_features'].",
    ]


def test_an_unexpected_error_has_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def work(context: dg.OpExecutionContext) -> None:
        raise ZeroDivisionError

    assert log_lines(work, capfd)[0].startswith("dagster - ERROR - user_features: Execution of step")
    assert error_message(ZeroDivisionError()) is None
    assert str(error_message(KeyboardInterrupt())).startswith("Interrupted")


def test_other_records_do_not_change() -> None:
    record = RunRecord("dagster", logging.INFO, "", 0, "Nothing new: %d days.", (3,), None)
    assert (record.msg, record.args, record.getMessage()) == ("Nothing new: %d days.", (3,), "Nothing new: 3 days.")
    record.dagster_meta = {"sensor_name": "new_event_partitions"}
    assert record.getMessage() == "Nothing new: 3 days."


DAILY = ["--select", "cleaned_events,rejected_events"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*DAILY, "--partition-range", "2019-10-01..2019-10-02"], "the first and the last day, such as 2019-10-01..."),
        ([*DAILY, "--partition-range", "2019-10-01...2020-10-02"], "they go from 2019-10-01 (ECOMMERCE_FIRST_DAY) to"),
        (["--select", "user_featurs"], "Error: there is no asset 'user_featurs'; did you mean user_features?"),
        (["--select", "cleaned_events"], "Error: Asset has partitions, but no '--partition' option was provided"),
    ],
)
def test_a_mistake_in_dagsters_command_is_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("ECOMMERCE_DATA_DIR", DEFAULT_DATA_DIR)
    command = ["dagster", "asset", "materialize", "-m", "ecommerce_assets.definitions", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    [dagster] = entry_points(group="console_scripts", name="dagster")
    with pytest.raises(Exception) as error:  # noqa: PT011 - each has another class
        dagster.load()()
    assert message in str(error_message(error.value))


@pytest.mark.parametrize(
    ("arguments", "is_set_up"),
    [
        (["/bin/dagster", "asset", "materialize"], True),
        (["/site-packages/dagster/__main__.py", "asset", "materialize"], True),
        (["/bin/dg", "launch"], True),
        (["/bin/dagster", "dev"], False),
        (["/bin/pytest", "materialize"], False),
    ],
)
def test_only_dagsters_run_commands_print_short_errors(
    arguments: list[str], is_set_up: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    with short_log_lines():  # which restores the factory of log records
        set_up(arguments)
    assert (sys.excepthook is not sys.__excepthook__) == is_set_up
    assert ("Loading the assets." in capsys.readouterr().err) == is_set_up
