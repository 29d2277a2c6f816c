"""The graph on Sail: the same rows as on Spark, without Java and with limited memory.

The trials need pysail:
`uv run --no-group newest --extra sail pytest -m trial ecommerce_assets_tests/spark/test_sail.py`
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyspark
import pytest

from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.events.sample import generate
from ecommerce_assets.spark import sail
from ecommerce_assets.spark.column_lineage import UNAVAILABLE
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.helpers import FIRST_DAY, event, write_day
from ecommerce_assets_tests.spark.test_java import path_without_java
from ecommerce_assets_tests.spark.whole_graph import TABLES, factors_of, rows_of, run

NEEDS = r"needs the package pysail and PySpark 4\.0 to 4\.2 \(installed: .*\)\. Install them: uv sync .*--extra sail"
SAMPLE = Path(__file__).parents[2] / "data" / "raw" / "events"


def test_a_missing_package_is_an_error_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sail, "find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=NEEDS), sail.running_sail("1g", "/nowhere", print):
        pass


def test_a_pyspark_that_is_too_new_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sail, "find_spec", lambda _: object())
    monkeypatch.setattr(pyspark, "__version__", "4.3.0")
    with pytest.raises(RuntimeError, match=NEEDS), sail.running_sail("1g", "/nowhere", print):
        pass


def sample(folder: Path) -> tuple[str, str]:
    """The shipped sample."""
    shutil.copytree(SAMPLE, folder / "raw" / "events", ignore=shutil.ignore_patterns("_SAMPLE"))
    return "2019-10-01", "2019-12-29"


def generated(folder: Path) -> tuple[str, str]:
    """Generated events."""
    generate(folder, events=6_000, days=8, first_day=date(2019, 10, 1))
    return "2019-10-01", "2019-10-08"


def odd(folder: Path) -> tuple[str, str]:
    """Rows that are rejected or repeated, in one day's folder and another's, with large and tiny prices, odd texts."""
    draw = random.Random(3)
    texts = ["ü", "", " x ", "a.b.c", "\N{SNOWMAN}", "NULL", "0", None]
    for day in ("2019-10-01", "2019-10-03", "2019-12-29"):
        rows: list[dict[str, Any]] = [
            event(
                f"{draw.choice((day, day, day, '2019-10-02'))} {n % 24:02d}:{n * 7 % 60:02d}:{n % 60:02d}",
                draw.choice(("view", "cart", "remove_from_cart", "purchase", "wishlist")),
                user_id=draw.choice((n % 9, 2**62 + n % 3, -1)),
                product_id=draw.choice((n % 17, 2**61)),
                price=draw.choice((0.0, 0.01, 1e-9, 999_999_999.99, 1204542647.5799, -1.0, None, 12.34)),
                brand=draw.choice(texts),
                category_code=draw.choice(texts),
                user_session=draw.choice(texts),
            )
            for n in range(400)
        ]
        write_day(folder, day, [*rows, *rows[::3]])
    return "2019-10-01", "2019-12-29"


def one_event(folder: Path) -> tuple[str, str]:
    """The smallest shop."""
    write_day(folder, FIRST_DAY, [event(f"{FIRST_DAY} 10:00:00")])
    return FIRST_DAY, FIRST_DAY


def text_ids(folder: Path) -> tuple[str, str]:
    """Ids that are texts."""
    made = [event(f"{FIRST_DAY} 10:{n:02d}:00", user_id=f"u{n // 3}", product_id=f"SKU-{n % 7}") for n in range(30)]
    write_day(folder, FIRST_DAY, pa.Table.from_pylist(made))
    return FIRST_DAY, FIRST_DAY


def comparable(data_dir: Path, asset: str) -> list[Any]:
    """Returns the rows; prices of rejected events are numbers, because Spark writes a large one as `1.0E8`."""
    rows = rows_of(data_dir, asset)
    if asset != "rejected_events":
        return rows
    place = CATALOG[asset].column_names.index("price")
    return sorted(((*row[:place], _number(row[place]), *row[place + 1 :]) for row in rows), key=repr)


def _number(text: str | None) -> str | None:
    try:
        return repr(float(text or ""))
    except ValueError:
        return text


@pytest.mark.trial
@pytest.mark.parametrize("make", [sample, generated, odd, one_event, text_ids])
def test_every_table_has_the_rows_of_spark(tmp_path: Path, make: Any) -> None:
    """Sail without a Java on the PATH."""
    shop = tmp_path / "shop"
    days = make(shop)
    options = {"ECOMMERCE_ID_TYPE": "string"} if make is text_ids else {}
    if make is odd:
        options |= {"ECOMMERCE_MAX_REJECTED_SHARE": "1"}
    (tmp_path / "spark").mkdir()
    on_spark, _ = run(shop, tmp_path / "spark", "local[2]", days, **options)
    (tmp_path / "sail").mkdir()
    no_java = {"PATH": path_without_java(tmp_path / "bin"), "JAVA_HOME": "/nowhere", "TMPDIR": str(tmp_path)}
    on_sail, log = run(shop, tmp_path / "sail", "sail", days, **options, **no_java)
    for asset in TABLES:
        assert comparable(on_sail, asset) == comparable(on_spark, asset), asset
    assert factors_of(on_sail) == factors_of(on_spark)
    assert "Starting Sail with 2g of memory." in log
    assert not list((on_sail / ".checkpoints").iterdir())
    lake = Lake(str(on_sail))
    assert {lake.latest(asset).column_lineage for asset in TABLES} == {None}
    assert UNAVAILABLE.startswith("Not recorded")


TOO_LARGE = """
import sys
import dagster as dg
from ecommerce_assets.console import short_log_lines
from ecommerce_assets.spark.resource import SparkResource

@dg.op
def work(spark: SparkResource):
    session = spark.spark_session
    hashes = session.range(3_000_000).selectExpr("sha2(string(id), 256) hash")
    print("sorted", hashes.sort("hash").selectExpr("max(hash)").count())
    rows = session.range(80_000).selectExpr("id a", "id b")
    rows.write.parquet(sys.argv[1] + "/rows")
    session.read.parquet(sys.argv[1] + "/rows").selectExpr("count(distinct a, b)").collect()

@dg.job(resource_defs={"spark": SparkResource(master="sail", driver_memory="100m", checkpoint_dir=sys.argv[1])})
def job():
    work()

with short_log_lines():
    job.execute_in_process(raise_on_error=False)
"""


@pytest.mark.trial
def test_a_query_that_exceeds_the_memory_is_written_to_files_or_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOO_LARGE, str(tmp_path)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines() == ["sorted 1"]
    [line] = [line for line in done.stderr.splitlines() if " - ERROR - work: " in line]
    assert line.endswith("increase ECOMMERCE_DRIVER_MEMORY, or use Spark, ECOMMERCE_SPARK_MASTER=local[*].")
    assert "Traceback" not in done.stderr


MLLIB = """
import sys
import dagster as dg
from ecommerce_assets.console import short_log_lines
from ecommerce_assets.spark import engine
from ecommerce_assets.spark.resource import SparkResource

@dg.op
def work(spark: SparkResource):
    engine.choose_engine(spark.spark_session, engine.Engine(sys.argv[2]), lambda: ("9 users", 10**15))

@dg.job(resource_defs={"spark": SparkResource(master="sail", driver_memory="100m", checkpoint_dir=sys.argv[1])})
def job():
    work()

with short_log_lines():
    job.execute_in_process(raise_on_error=False)
"""


@pytest.mark.trial
@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("mllib", "The engine mllib needs Spark, ECOMMERCE_SPARK_MASTER=local[*]; Sail has the engine local."),
        (
            "auto",
            "of which half may be used: use Spark, ECOMMERCE_SPARK_MASTER=local[*], whose engine mllib needs less.",
        ),
    ],
)
def test_mllib_is_refused_with_a_sentence(tmp_path: Path, asked: str, sentence: str) -> None:
    command = [sys.executable, "-c", MLLIB, str(tmp_path), asked]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    [line] = [line for line in done.stderr.splitlines() if " - ERROR - work: " in line]
    assert line.endswith(sentence)
    assert "Traceback" not in done.stderr
