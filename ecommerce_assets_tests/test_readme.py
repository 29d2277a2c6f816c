"""The README is right: its graph and its tables are those of the code, and every command in it runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import duckdb
import pytest

from ecommerce_assets.recommendation.assets import AlsConfig, ListConfig, NeighboursConfig, PairsConfig, SimilarConfig
from ecommerce_assets.recommendation.backtest_assets import BacktestConfig
from ecommerce_assets.recommendation.tuning_assets import TuningConfig
from ecommerce_assets.segmentation.assets import SegmentationConfig

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
GRAPH = json.loads((Path(__file__).parent / "asset_graph.json").read_text())


def section(title: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found, f"the README has no section {title}"
    return found[1]


def table_rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables in a text, without heads, backticks and rules."""
    lines = [
        [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line[:1] == "|"
    ]
    return [row for row in lines if not set("".join(row)) <= set("-|")]


def test_the_picture_of_the_graph_is_the_graph() -> None:
    [drawn] = re.findall(r"```mermaid\nflowchart LR\n(.*?)```", README, re.DOTALL)
    arrows = set()
    for line in drawn.splitlines():
        before, after = (side.split(" & ") for side in line.strip().split(" --> "))
        arrows |= set(product(before, after))
    left_out = {"training_metadata", "als_tuning", "backtest", "segmentation_by_k"}
    assert arrows == {
        (parent, asset) for asset, node in GRAPH.items() if asset not in left_out for parent in node["depends on"]
    }
    described = set(GRAPH["training_metadata"]["depends on"])
    events = {"raw_events", "cleaned_events", "rejected_events"}
    assert described == set(GRAPH) - left_out - events - {"product_catalog", "segment_history"}


def test_every_parameter_is_in_the_table_as_it_is() -> None:
    configs = {
        "segmentation_model": SegmentationConfig,
        "als_model": AlsConfig,
        "item_neighbours": NeighboursConfig,
        "als_evaluation": ListConfig,
        "similar_products": SimilarConfig,
        "product_pairs": PairsConfig,
        "als_tuning": TuningConfig,
        "backtest": BacktestConfig,
    }
    told = [tuple(row) for row in table_rows(section("Parameters"))[1:]]
    assert told == [
        (
            asset,
            name,
            "unset" if field.default is None else str(getattr(field.default, "value", field.default)).lower(),
            field.description,
        )
        for asset, config in configs.items()
        for name, field in config.model_fields.items()
    ]


INSTEAD = {
    "--events 1e6 5e6 --out /tmp/benchmark": "--events 2e4 --only graph kernels --out benchmark",  # not for hours
}
"""What a command is replaced with where it cannot be run as it stands."""
SERVES = "dagster dev"
"""Commands with it go on until they are stopped."""
LANDED = re.compile(r"^\s*(DAGSTER_HOME=.*dagster asset materialize .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Reader:
    """Someone with a copy of the project, a home of their own and some files, who types what the README says."""

    project: Path
    environment: dict[str, str]

    def types(self, script: str, **more: str) -> str:
        """What a script prints; it must end well."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.project,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout + done.stderr

    def starts(self, script: str) -> None:
        """Until it serves; then it is stopped, as by Ctrl-C."""
        log = self.project / "served.log"
        with log.open("wb") as output:
            served = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.project,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + 120
            while "Serving dagster-webserver on" not in log.read_text():
                assert served.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.5)
        finally:
            os.killpg(served.pid, signal.SIGINT)
            try:
                served.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(served.pid, signal.SIGKILL)


def blocks(kind: str, text: str = README) -> list[str]:
    """The README's code of a kind, as it is to be run."""
    found = re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for as_written, instead in INSTEAD.items():
        found = [code.replace(as_written, instead) for code in found]
    return found


def is_test(command: str) -> bool:
    return "pytest" in command


def spoken() -> list[str]:
    """The commands in running text that stand in no block."""
    prose = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    written = "".join(blocks("bash"))
    return [c for c in dict.fromkeys(re.findall(r"`(uv run [^`]+)`", prose)) if c not in written and not is_test(c)]


def test_what_is_replaced_is_there() -> None:
    assert [text for text in INSTEAD if text not in README] == []


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("reader")
    project, home = folder / "project", folder / "home"
    home.mkdir()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, project / name)
    subprocess.run("git init -q && git add -A", shell=True, cwd=project, check=True)  # a clone, to pre-commit
    packages = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ECOMMERCE_", "DAGSTER_"))}
    for name in ("VIRTUAL_ENV", "PYTHONPATH"):
        kept.pop(name, None)
    (folder / "tmp").mkdir()
    return Reader(project, {**kept, "HOME": str(home), "UV_CACHE_DIR": packages, "TMPDIR": str(folder / "tmp")})


def lay_out_files(project: Path) -> None:
    """Log files such as the README's commands name, and an export; made of the sample."""
    day = next((project / "data/raw/events").glob("event_date=*/"))
    rows = f"SELECT * FROM read_parquet('{day}/*.parquet', hive_partitioning=false)"
    duckdb.sql(f"COPY ({rows}) TO '{project}/events_1.csv.gz' (HEADER, COMPRESSION gzip)")
    export = project / "data/processed/parquet/cleaned_data_20241201_120000.parquet"
    export.parent.mkdir(parents=True)
    all_rows = f"SELECT * FROM read_parquet('{project}/data/raw/events/*/*.parquet', hive_partitioning=false)"
    duckdb.sql(f"COPY ({all_rows}) TO '{export}'")
    (project / "Online Retail.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,HOLDER,6,01/12/2019 08:26,2.55,17850,United Kingdom\n"
        "536366,22633,BOX FOR \xa35,2,01/12/2019 09:02,1.85,17850,United Kingdom\n"
        "C536379,D,Discount,-1,02/12/2019 09:41,27.50,14527,United Kingdom\n"
        "536367,84879,BIRD,32,02/12/2019 10:34,1.69,,United Kingdom\n",
        encoding="latin-1",
    )


@pytest.mark.trial
def test_every_command_runs(reader: Reader) -> None:
    """All but the tests' own, in the README's order; what a section exports holds to its end."""
    lay_out_files(reader.project)
    for text in re.split(r"^## ", README, flags=re.MULTILINE):
        if text.startswith("Contributing"):
            continue  # its code are files: test_contributing.py writes and runs them
        exports = ""
        for code in blocks("bash", text):
            if is_test(code):
                continue
            if SERVES in code:
                reader.starts(exports + code)
                continue
            exports += "".join(line + "\n" for line in code.splitlines() if line.startswith("export "))
            said = reader.types(exports + code)
            for command in LANDED.findall(said):
                reader.types(exports + command)
        if exports:
            reader.types(exports + "uv run python -c 'from ecommerce_assets.settings import *; load_settings()'")
        for code in blocks("python", text):
            reader.types(f"uv run python - <<'END'\n{code}\nEND")
    for command in spoken():
        (reader.starts if SERVES in command else reader.types)(command)
