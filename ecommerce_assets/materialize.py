"""The command `ecommerce-assets run`: calls `dagster asset materialize` with the days that have raw files."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path

import click

from ecommerce_assets import console
from ecommerce_assets.env_file import RUN
from ecommerce_assets.events.schema import PARTITION_COLUMN
from ecommerce_assets.settings import Settings, load_settings
from ecommerce_assets.storage.filesystem import Folder

MODULE = "ecommerce_assets.definitions"
DAGSTER_HOME = "DAGSTER_HOME"
DAGSTER_COMMAND = ("dagster", "asset", "materialize")


@click.command("run")
@click.option("--select", default="*", show_default=True, help="Assets to materialise, in Dagster's selection syntax.")
@click.option("--partition-range", metavar="FIRST...LAST", help="Days; default: all days that have raw files.")
def command(select: str, partition_range: str | None) -> None:
    """Materialise the whole graph, or a selection of it, over the days that have raw files.

    Log and exit code are those of `dagster asset materialize`: 1 if a step or a blocking check failed. If DAGSTER_HOME
    is not set, the history of runs is in the folder .dagster of the current folder.

    \b
    Examples:
      ecommerce-assets run
      ecommerce-assets run --select cleaned_events,rejected_events --partition-range 2019-10-01...2019-10-31
    """
    settings = load_settings()
    if partition_range is None and select == "*":
        partition_range = available_days(settings)
    console.set_up(DAGSTER_COMMAND)
    if partition_range is None and _has_daily_asset(select):
        partition_range = available_days(settings)
    if not os.environ.get(DAGSTER_HOME):
        os.environ[DAGSTER_HOME] = str(_instance_folder(Path.cwd() / ".dagster"))
    days = ["--partition-range", partition_range] if partition_range else []
    sys.argv = [*DAGSTER_COMMAND, "-m", MODULE, "--select", select, *days]
    # Dagster advises users of its command to call another one.
    warnings.filterwarnings("ignore", "Function `asset_materialize_command` is superseded")
    [dagster] = entry_points(group="console_scripts", name="dagster")
    dagster.load()()


def available_days(settings: Settings) -> str:
    """Returns the first and the last daily partition that have a folder of raw files, as `FIRST...LAST`.

    Raises
    ------
    click.ClickException
        If there is none.
    """
    folder = Folder(settings.data_dir) / "raw" / "events"
    prefix = f"{PARTITION_COLUMN}="
    stored = sorted(name.removeprefix(prefix) for name in folder.folders() if name.startswith(prefix))
    first, last = settings.first_day, settings.end_day or datetime.now(UTC).date() - timedelta(days=1)
    days = [day for day in stored if _is_between(day, first, last)]
    if not days:
        raise click.ClickException(
            f"There are no raw events from {first} to {last} in {folder.uri}: land files with "
            f"`{RUN}ecommerce-assets land FILE`, or write a generated shop with `{RUN}ecommerce-assets sample`."
        )
    if len(days) < len(stored):
        outside = ", ".join(day for day in stored if day not in days)
        click.echo(f"Ignored folders, which are not daily partitions ({first} to {last}): {outside}", err=True)
    return f"{days[0]}...{days[-1]}"


def _is_between(day: str, first: date, last: date) -> bool:
    try:
        return first <= date.fromisoformat(day) <= last
    except ValueError:
        return False


def _has_daily_asset(select: str) -> bool:
    """Returns whether a selection has a daily asset, which needs a range; Dagster refuses a range for other assets."""
    import dagster as dg

    from ecommerce_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    keys = dg.AssetSelection.from_coercible(select.split(",")).resolve(graph)
    return any(graph.get(key).partitions_def is not None for key in keys)


def _instance_folder(folder: Path) -> Path:
    """Returns the folder of Dagster's instance, after creating it with the project's dagster.yaml if necessary."""
    folder.mkdir(exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        shutil.copy(Path(__file__).with_name("dagster.yaml"), folder)
    return folder
