"""The generated events, the calculations, and the parts that need no optional packages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from ecommerce_assets_tests.benchmarks import __main__ as benchmark
from ecommerce_assets_tests.benchmarks import growth, kernels, report
from ecommerce_assets_tests.benchmarks.__main__ import main
from ecommerce_assets_tests.benchmarks.duckdb_peer import TABLES
from ecommerce_assets_tests.benchmarks.events import DAYS, FIRST_DAY, KINDS, events_by_day, generate, product_count
from ecommerce_assets_tests.benchmarks.objective import objective
from ecommerce_assets_tests.benchmarks.part import Place
from ecommerce_assets_tests.helpers import RAW_TYPES

EVENTS = 20_000
OPTIONAL = ("implicit", "scipy", "threadpoolctl", "matplotlib", "psutil")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("benchmark"))
    generate(made, EVENTS)
    return made


@pytest.fixture
def without_optional_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPTIONAL:
        monkeypatch.setitem(sys.modules, name, None)


def first_row(question: str, place: Place) -> tuple[Any, ...]:
    with duckdb.connect() as database:
        [row] = database.execute(question.format(events=f"'{place.export}/*.parquet'")).fetchall()
    return tuple(row)


def test_generated_events_have_the_requested_numbers(place: Place) -> None:
    rows, distinct, users, products = first_row(
        "select count(*), (select count(*) from (select distinct * from {events})), count(distinct user_id), "
        "count(distinct product_id) from {events}",
        place,
    )
    assert rows == distinct == EVENTS
    assert users == EVENTS // 14
    assert 0.5 * product_count(EVENTS) < products <= product_count(EVENTS)


def test_generated_events_have_the_proportions_of_a_shop(place: Place) -> None:
    views, carts, purchases, no_brand, no_code = first_row(
        "select "
        + ", ".join(f"avg((event_type = '{kind}')::int)" for kind in KINDS)
        + ", avg((brand is null)::int), avg((category_code is null)::int) from {events}",
        place,
    )
    assert views == pytest.approx(0.96, abs=0.01)
    assert carts == pytest.approx(0.022, abs=0.005)
    assert purchases == pytest.approx(0.018, abs=0.005)
    assert no_brand == pytest.approx(0.14, abs=0.06)  # few products have many of the events
    assert no_code == pytest.approx(0.32, abs=0.08)
    median, largest, sessions = first_row(
        "select median(c), max(c), sum(s) from "
        "(select count(*) c, count(distinct user_session) s from {events} group by user_id)",
        place,
    )
    assert median < EVENTS / (EVENTS // 14) < largest / 10  # heavy tail
    assert EVENTS / sessions == pytest.approx(4.6, rel=0.1)
    (share,) = first_row(
        "select avg(best / of_all) from (select max(c) best, sum(c) of_all from "
        "(select user_id, category_id, count(*) c from {events} group by all) group by user_id having sum(c) > 40)",
        place,
    )
    assert share > 0.2  # of 130 categories


def test_generated_days_have_their_events_in_the_raw_schema_and_the_export_has_the_same_files(place: Place) -> None:
    folders = sorted((place.shop / "raw" / "events").iterdir())
    assert len(folders) == DAYS
    assert folders[0].name == f"event_date={FIRST_DAY}"
    for folder, link in zip(folders, sorted(place.export.iterdir()), strict=True):
        file = folder / "part-0.parquet"
        table = pq.read_table(file, partitioning=None)
        assert dict(zip(table.schema.names, table.schema.types, strict=True)) == RAW_TYPES
        times = table.column("event_time").to_numpy()
        assert set(np.unique(times.astype("datetime64[D]")).astype(str)) == {folder.name.removeprefix("event_date=")}
        assert (np.diff(times) >= np.timedelta64(0)).all()
        assert link.samefile(file)


def test_generated_events_depend_only_on_the_seed(place: Place, tmp_path: Path) -> None:
    def rows(folder: Path) -> list[bytes]:
        return [file.read_bytes() for file in sorted(folder.iterdir())]

    again, other = Place(tmp_path / "again"), Place(tmp_path / "other")
    generate(again, EVENTS)
    generate(other, EVENTS, seed=8)
    assert rows(again.export) == rows(place.export)
    assert all(one_day != another for one_day, another in zip(rows(other.export), rows(place.export), strict=True))


def test_events_by_day_add_up_and_can_be_fewer_than_days(tmp_path: Path) -> None:
    for events in (0, 40, 1_000_000, 42_400_000):
        assert sum(events_by_day(events, seed=1)) == events
    tiny = Place(tmp_path)
    generate(tiny, 40)
    assert first_row("select count(*) from {events}", tiny) == (40,)


def test_growth_exponents() -> None:
    assert growth.exponents({1_000: 3.0, 2_000: 6.0, 4_000: 24.0}) == [1.0, 2.0]
    assert growth.exponents({5_000: 1.0}) == []
    assert growth.exponents({1_000: 0.0, 2_000: 1.0}) == []  # too short to measure


def test_objective_equals_the_sum_over_all_pairs() -> None:
    rng = np.random.default_rng(3)
    users, products = rng.random((6, 4), np.float32), rng.random((5, 4), np.float32)
    user, product = np.nonzero(rng.random((6, 5)) < 0.4)
    rating = rng.integers(1, 11, len(user))
    preference, confidence = np.zeros((6, 5)), np.ones((6, 5))
    preference[user, product], confidence[user, product] = 1, 1 + 0.5 * rating
    expected = (confidence * (preference - users.astype(float) @ products.T) ** 2).sum()
    expected += 0.2 * sum((users[u] ** 2).sum() + (products[p] ** 2).sum() for u, p in zip(user, product, strict=True))
    assert objective((user, product, rating), users, products, 0.2, 0.5) == pytest.approx(expected, rel=1e-6)


def example_results(scale: float) -> dict[str, dict[str, Any]]:
    ours = dict.fromkeys((*report.TABLES, *report.LISTS), 2.0 * scale)
    checks = dict.fromkeys((*report.TABLES, "cleaned_events"), 0.5 * scale)
    theirs = dict.fromkeys((*report.TABLES, *report.LISTS), 1.0 * scale)
    stages = {"als: ours": 2.0, "als: MLlib": 20.0, "top 10: ours": 1.0, "top 10: brute force": 3.0}
    return {
        "graph": {"seconds": 50.0 * scale, "peak_bytes": 2_000_000_000, "stages": ours, "check_seconds": checks},
        "mllib": {"seconds": 150.0 * scale, "peak_bytes": 3_000_000_000, "stages": {"als_model": 90.0}},
        "duckdb": {"seconds": 9.0 * scale, "peak_bytes": None, "stages": theirs, "notes": ["A note."]},
        "kernels": {
            "stages": stages,
            "compile_seconds": 8.0,
            "pairs": 1234,
            "objectives": {"ours": 100.0, "MLlib": 101.0},
            "score_differences": {"ours": 1e-7},
        },
        "reference": {"failed": "the reference ended with 1."},
    }


def test_comparisons_have_ratios_and_notes() -> None:
    rows = {row.comparison: row for row in report.compare(example_results(1.0))}
    assert {name: row.ratio for name, row in rows.items()} == {
        "whole graph: MLlib pipeline / ours": 3.0,
        "tables: ours / DuckDB": 1.5,
        "tables, ALS and top 10: DuckDB and implicit / ours": 0.5,
        "ALS: MLlib / ours": 10.0,
        "top 10: brute force / ours": 3.0,
        "peak memory: MLlib pipeline / ours": 1.5,
    }
    assert rows["tables: ours / DuckDB"].note == "without the 2.5 s of our checks"
    assert rows["ALS: MLlib / ours"].note == "objective MLlib / ours 1.01000"
    assert rows["top 10: brute force / ours"].note == "largest score difference of ours to brute force 1.0e-07"


def test_the_report_has_comparisons_growth_memory_and_remarks() -> None:
    machine = {
        "cpu": "A processor",
        "cores": 4,
        "memory_bytes": 8 << 30,
        "system": "Linux",
        "versions": {"numpy": "2.3", "implicit": None},
    }
    lines = report.render({1_000: example_results(1.0), 10_000: example_results(10.0)}, machine).splitlines()
    assert [line for line in lines if line.startswith("## ")] == [
        "## 1,000 events",
        "## 10,000 events",
        "## Seconds by stage",
        "## Peak memory, MB",
        "## Machine",
    ]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert ["whole graph: MLlib pipeline / ours", "150.00 s", "50.00 s", "3.00", ""] in cells
    assert ["graph", "user_index", "2.00 s", "20.00 s", "1.00"] in cells
    assert ["graph", "**whole process**", "50.00 s", "500.00 s", "1.00"] in cells
    assert ["mllib", "3,000", "3,000"] in cells
    assert "- reference: the reference ended with 1." in lines
    assert "- duckdb: A note." in lines
    assert lines[-1] == "A processor, 4 cores, 8.0 GiB, Linux; numpy 2.3, implicit not installed."


def test_kernels_have_the_scores_of_brute_force(without_optional_packages: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = rng.choice(60 * 40, 500, replace=False)
    pairs = (cells // 40).astype(np.int32), (cells % 40).astype(np.int32), rng.integers(1, 11, 500).astype(np.float32)
    results = kernels.compare(pairs, Place(tmp_path, with_mllib=False), tmp_path)
    assert list(results["stages"]) == ["als: ours", "top 10: ours", "top 10: product alone", "top 10: brute force"]
    assert results["score_differences"]["ours"] < 1e-5
    nothing = objective(pairs, np.zeros((60, 1), np.float32), np.zeros((40, 1), np.float32))
    assert 0 < results["objectives"]["ours"] < nothing
    assert results["notes"] == [
        "No ALS and top 10 of implicit: implicit and scipy and threadpoolctl are not installed; "
        "`uv run --group bench` installs the optional packages."
    ]


def test_parts_run_from_events_to_report(
    without_optional_packages: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = 'ls {data} > {out} && echo starting && echo \'{"stages": {"fit": 1.5}, "users": 3}\''
    arguments = ["--events", "2e3", "--out", str(tmp_path), "--only", "duckdb", "reference", "--reference", trainer]
    assert main(arguments) == 0
    document = json.loads((tmp_path / "results.json").read_text())
    parts = document["results"]["2000"]
    assert set(TABLES) <= set(parts["duckdb"]["stages"])
    assert parts["reference"]["stages"] == {"fit": 1.5}
    assert (tmp_path / "report.md").read_text() in capsys.readouterr().out
    assert len((tmp_path / "events_2000" / "work" / "reference" / "out").read_text().split()) == DAYS


def test_a_failed_part_is_reported_and_the_exit_code_is_1(
    without_optional_packages: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_process(name: str, *_: Any) -> dict[str, Any]:
        return {} if name == "events" else {"failed": f"{name} ended with 3."}

    monkeypatch.setattr(benchmark, "run_module", no_process)
    (tmp_path / "events_500").mkdir()
    arguments = ["--events", "500", "--out", str(tmp_path), "--only", "mllib", "reference", "--reference", "exit 3"]
    assert main(arguments) == 1
    output = capsys.readouterr().out
    assert "mllib ended with 3." in output
    assert "the reference ended with 3; see " in output
