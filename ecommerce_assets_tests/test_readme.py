"""The README pages: graph, tables, links and commands match the code.

The trial runs the blocks of `bash` and `python`. Blocks of `sh` need files or hosts that tests do not have.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import click
import duckdb
import pytest

from ecommerce_assets.cli import main
from ecommerce_assets.recommendation.assets import AlsConfig, ListConfig, NeighboursConfig, PairsConfig, SimilarConfig
from ecommerce_assets.recommendation.backtest_assets import BacktestConfig
from ecommerce_assets.recommendation.tuning_assets import TuningConfig
from ecommerce_assets.segmentation.assets import SegmentationConfig
from ecommerce_assets.settings import Settings, variable

PROJECT = Path(__file__).parents[1]
PACKAGES = ("ecommerce_assets", "ecommerce_assets_tests")
PAGES = {
    str(file.relative_to(PROJECT)): file.read_text()
    for file in [
        PROJECT / "README.md",
        *sorted(file for package in PACKAGES for file in (PROJECT / package).rglob("README.md")),
        PROJECT / ".github" / "CONTRIBUTING.md",
    ]
}
"""Text by path. The README is first, because other pages read what its main command makes."""
OPERATING, RECOMMENDATION = PAGES["ecommerce_assets/README.md"], PAGES["ecommerce_assets/recommendation/README.md"]
GRAPH = json.loads((Path(__file__).parent / "asset_graph.json").read_text())


def section(page: str, title: str) -> str:
    """Returns the text below a heading of the second level."""
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    assert match, f"there is no section {title}"
    return match[1]


def table_rows(text: str) -> list[list[str]]:
    """Returns the cells of each row of the tables in a text, without backticks and rules."""
    lines = [
        [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line[:1] == "|"
    ]
    return [row for row in lines if not set("".join(row)) <= set("-|")]


def test_the_diagram_is_the_graph() -> None:
    [diagram] = re.findall(r"```mermaid\nflowchart LR\n(.*?)```", OPERATING, re.DOTALL)
    arrows = set()
    for line in diagram.splitlines():
        parents, children = (side.split(" & ") for side in line.strip().split(" --> "))
        arrows |= set(product(parents, children))
    omitted = {"training_metadata", "als_tuning", "backtest", "segmentation_by_k"}
    assert arrows == {
        (parent, asset) for asset, node in GRAPH.items() if asset not in omitted for parent in node["depends on"]
    }
    described = set(GRAPH["training_metadata"]["depends on"])
    events = {"raw_events", "cleaned_events", "rejected_events"}
    assert described == set(GRAPH) - omitted - events - {"product_catalog", "segment_history"}


def test_the_table_of_parameters_has_their_defaults_and_descriptions() -> None:
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
    listed = [tuple(row) for row in table_rows(section(RECOMMENDATION, "Parameters"))[1:]]
    assert listed == [
        (
            asset,
            name,
            "unset" if field.default is None else str(getattr(field.default, "value", field.default)).lower(),
            field.description,
        )
        for asset, config in configs.items()
        for name, field in config.model_fields.items()
    ]


def test_every_asset_is_in_the_table() -> None:
    listed = {name for row in table_rows(section(OPERATING, "Assets")) for name in re.findall(r"\w+", row[0])}
    assert set(GRAPH) - {"als_tuning", "backtest", "segmentation_by_k"} <= listed


def test_every_setting_is_in_the_table() -> None:
    rows = table_rows(section(OPERATING, "Settings"))[1:]
    assert [row[0] for row in rows] == [variable(name) for name in Settings.model_fields]
    assert [row[2] for row in rows] == [str(field.description).strip("`") for field in Settings.model_fields.values()]


def anchors(page: str) -> set[str]:
    """Returns GitHub's anchors of the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_has_a_target(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (PROJECT / name).parent / path if path else PROJECT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def commands(page: str) -> list[str]:
    """Returns the command lines of a page, in blocks and in text, with continued lines joined."""
    code = re.findall(r"^```(?:bash|sh)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    lines = [line for block in code for line in block.replace("\\\n", " ").splitlines()]
    return [*lines, *re.findall(r"`((?:uv run|ecommerce-assets) [^`]+)`", page)]


@pytest.mark.parametrize("name", PAGES)
def test_every_command_has_valid_subcommands_options_and_modules(name: str) -> None:
    for line in commands(PAGES[name]):
        if "ecommerce-assets" not in line and "python -m" not in line:
            continue
        words = shlex.split(re.sub(r"\$\((.*?)\)", r"\1", line.replace('"$(', "$(").replace(')"', ")")), comments=True)
        if "python" in words:
            assert importlib.util.find_spec(words[words.index("-m") + 1]), line
            continue
        group: click.Command = main
        arguments = words[words.index("ecommerce-assets") + 1 :] if "ecommerce-assets" in words else ["--help"]
        while isinstance(group, click.Group) and not arguments[0].startswith("-"):
            subcommand = group.get_command(click.Context(group), arguments.pop(0))
            assert subcommand, line
            group = subcommand
        if "--help" not in arguments:
            group.make_context("ecommerce-assets", arguments)  # raises UsageError


SHORTER = {"--events 1e6 5e6 --out /tmp/benchmark": "--events 2e4 --only graph kernels --out benchmark"}
"""Replacements of commands that would take hours."""
SERVES = re.compile(r"dagster dev|ecommerce-assets serve")
"""Commands that run until they are stopped."""
READY = ("Serving dagster-webserver on", "Uvicorn running on")
LANDED = re.compile(r"^\s*(ECOMMERCE_.* uv run ecommerce-assets run .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Copy:
    """A copy of the project, a home and some files, in which the commands of the pages run."""

    project: Path
    environment: dict[str, str]

    def run(self, script: str, **more: str) -> str:
        """Runs a script, which must succeed, and returns its output."""
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

    def serve(self, script: str) -> None:
        """Starts a script, waits until it is ready, and stops it as Ctrl-C does."""
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
            while not any(words in log.read_text() for words in READY):
                assert served.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.5)
        finally:
            os.killpg(served.pid, signal.SIGINT)
            try:
                served.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(served.pid, signal.SIGKILL)


def blocks(kind: str, text: str) -> list[str]:
    """Returns the blocks of a language, with `SHORTER` applied."""
    code_blocks = re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for command, shorter in SHORTER.items():
        code_blocks = [code.replace(command, shorter) for code in code_blocks]
    return code_blocks


def is_test(command: str) -> bool:
    return "pytest" in command


def inline_commands(page: str) -> list[str]:
    """Returns the commands in the text that are not in a block."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    written = "".join(blocks("bash", page))
    inline = dict.fromkeys(re.findall(r"`(uv run [^`…]+)`", prose))
    return [command for command in inline if command not in written and not is_test(command)]


def test_shortened_commands_are_on_a_page() -> None:
    assert [text for text in SHORTER if not any(text in page for page in PAGES.values())] == []


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    folder = tmp_path_factory.mktemp("copy")
    project, home = folder / "project", folder / "home"
    home.mkdir()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, project / name)
    subprocess.run("git init -q && git add -A", shell=True, cwd=project, check=True)  # pre-commit needs a repository
    packages = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ECOMMERCE_", "DAGSTER_"))}
    for name in ("VIRTUAL_ENV", "PYTHONPATH"):
        kept.pop(name, None)
    (folder / "tmp").mkdir()
    write_files(project)
    return Copy(project, {**kept, "HOME": str(home), "UV_CACHE_DIR": packages, "TMPDIR": str(folder / "tmp")})


def write_files(project: Path) -> None:
    """Writes the files that the commands read, from the sample."""
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
@pytest.mark.parametrize("name", PAGES)
def test_every_command_runs(copy: Copy, name: str) -> None:
    """In the order of the page, without those of the tests; exports of a section apply to its end."""
    if name.endswith("CONTRIBUTING.md"):
        return  # test_contributing.py writes its files and runs its commands
    if not (copy.project / "data" / "lake").exists() and name != "README.md":
        copy.run("uv run ecommerce-assets run")
    for text in re.split(r"^## ", PAGES[name], flags=re.MULTILINE):
        exports = ""
        for code in blocks("bash", text):
            if is_test(code):
                continue
            lines = code.splitlines()
            served = lines.pop() if SERVES.search(lines[-1]) else None
            exports += "".join(line + "\n" for line in lines if line.startswith("export "))
            printed = copy.run("\n".join([exports, *lines]))
            for command in LANDED.findall(printed):
                copy.run(exports + command)
            if served:
                copy.serve(exports + served)
        if exports:
            copy.run(exports + "uv run python -c 'from ecommerce_assets.settings import *; load_settings()'")
        for code in blocks("python", text):
            copy.run(f"uv run python - <<'END'\n{code}\nEND")
    for command in inline_commands(PAGES[name]):
        (copy.serve if SERVES.search(command) else copy.run)(command)
