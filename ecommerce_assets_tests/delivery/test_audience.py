"""The customers that match a condition, the file, and errors in conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from ecommerce_assets.cli import main
from ecommerce_assets.delivery.audience import AudienceError, audience, audience_columns, output_file
from ecommerce_assets.recommendation.als_model import LocalModel
from ecommerce_assets.recommendation.local_als import Factors
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.helpers import put_table, version_of
from ecommerce_assets_tests.lookup.shop import listed, made_from, publish, seen, user

USERS = {1: 500.0, 2: 300.0, 3: 300.0, 4: 0.0}
"""`monetary` by user."""

GROUPS = {1: "At Risk", 2: "Champions", 3: "At Risk", 4: "Prospects"}
VECTORS = {1: [0.5, 0.25], 2: [0.25, 1.0], 3: [0.0, 0.5]}
"""Factors by user; the model does not know user 4."""

PRODUCTS = {100: [1.0, 0.0], 200: [0.5, 0.5], 300: [0.0, 1.0]}
CATEGORIES = {100: "toys.bricks", 200: "toys", 300: "toystore"}


def small_shop(lake: Lake, ids: type = int) -> None:
    """Publishes four users with groups and values, and a model whose indices have another order than the ids."""
    kind = "string" if ids is str else "bigint"
    day = {"2019-10-01": [seen("2019-10-01 10:00", ids(1), ids(100))]}
    events = publish(lake, "cleaned_events", day, kind)
    features = publish(lake, "user_features", [], kind, inputs=made_from(events))
    rows = [
        {**user(ids(n), "2019-10-01", "2019-10-03"), "monetary": monetary, "conversion_rate": n / 1_000}
        for n, monetary in USERS.items()
    ]
    users = publish(lake, "segmented_users", rows, kind, inputs=made_from(features))
    id_column = pa.array([ids(n) for n in USERS])
    scores = pa.array([1, 5, 2, None], pa.int32())
    groups: dict[str, Any] = {"r_score": scores, "f_score": scores, "m_score": scores}
    groups |= {"customer_group": list(GROUPS.values()), "monetary": [9.0] * 4}
    put_table(lake, "customer_groups", pa.table({"user_id": id_column, **groups}), inputs=made_from(features))
    value = pa.table({"user_id": id_column[:2], "probability_active": [0.75, None]})
    compared = {"lower": -0.2, "upper": 0.1}
    holdout = {"days": 7, "cutoff": "2019-09-24", "purchases": compared, "value": {"lower": -3.0, "upper": -1.0}}
    stats = Stats(rows=2, results={"reason": None, "holdout": holdout})
    put_table(lake, "customer_value", value, inputs=made_from(events), stats=stats)
    numbers = {1: 2, 2: 0, 3: 1}
    index = pa.table({"user_id": [ids(n) for n in numbers], "user_idx": pa.array(numbers.values(), pa.int32())})
    user_index = put_table(lake, "user_index", index)
    places = {100: 1, 200: 2, 300: 0, 400: 3}
    index = pa.table({"product_id": [ids(n) for n in places], "product_idx": pa.array(places.values(), pa.int32())})
    product_index = put_table(lake, "product_index", index)
    rated = [(2, 2, 10.0), (2, 1, 2.0), (0, 0, 1.0)]  # user 1: products 200 and 100; user 2: product 300
    pairs = {"user_idx": [u for u, *_ in rated], "product_idx": [p for _, p, _ in rated]}
    pairs = {name: pa.array(values, pa.int32()) for name, values in pairs.items()}
    interactions = put_table(lake, "interaction_data", pa.table({**pairs, "rating": [r for *_, r in rated]}))
    folder = Lake.new_folder()
    factors = [
        Factors(
            np.array([0, 1, 2], np.int32),
            np.array([vectors[n] for n in sorted(vectors, key=of.__getitem__)], np.float32),
        )
        for vectors, of in ((VECTORS, numbers), (PRODUCTS, places))
    ]
    LocalModel(*factors).save((lake.asset("als_model") / folder / "model").uri)
    inputs = made_from(user_index, product_index, interactions)
    model = lake.publish_folder(version_of("als_model", folder, kind="model", inputs=inputs))
    known = [
        {"product_id": ids(n), "category": category, "eligible": True, "in_catalog": True, "name": f"Thing {n}"}
        for n, category in CATEGORIES.items()
    ]
    known.append({"product_id": ids(400), "category": "games", "eligible": True, "in_catalog": True})
    known.append({"product_id": ids(500), "category": "toys", "eligible": False, "in_catalog": True})
    decided = publish(lake, "product_eligibility", known, kind)
    publish(lake, "recommendations", listed(ids(1), ids(100)), kind, inputs=made_from(model, decided, users))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("shop")))
    small_shop(lake)
    return lake


def test_a_condition_on_predictions_notes_their_test(shop: Lake) -> None:
    with audience(shop, "probability_active > 0.5") as customers:
        assert customers.count == 1
        assert customers.notes == [
            "customer_value, tested on the 7 days after 2019-09-24: for purchase days the model is not better than "
            '"same as before" (95 % interval of the difference in error -0.20 to +0.10), for value the model is better '
            'than "same as before" (95 % interval of the difference in error -3.00 to -1.00).'
        ]
    with audience(shop, "monetary > 400") as customers:
        assert customers.notes == []


def test_texts_are_compared_without_case(shop: Lake) -> None:
    with audience(shop, "group = 'at risk'") as customers:
        assert customers.count == 2


def test_ids_that_differ_in_case_are_different_users(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "data"))
    users = [user(each, "2019-10-01", "2019-10-03") for each in ("Ab", "aB")]
    publish(lake, "segmented_users", users, "string")
    put_table(lake, "customer_groups", pa.table({"user_id": ["Ab", "aB"], "customer_group": ["Lost", "New"]}))
    customers = {row["user_id"]: row["customer_group"] for row in rows(lake, "group in ('lost', 'new')", tmp_path)}
    assert customers == {"Ab": "Lost", "aB": "New"}
    assert ids(lake, "user_id = 'Ab'", tmp_path) == ["Ab"]


def rows(lake: Lake, where: str, folder: Path) -> list[dict[str, Any]]:
    """The rows of the Parquet file."""
    with audience(lake, where) as customers:
        customers.write(output_file(f"{folder}/found.parquet"))
        table = pq.read_table(folder / "found.parquet").to_pylist()
        assert customers.count == len(table)
    return table


def ids(lake: Lake, where: str, folder: Path) -> list[Any]:
    return [row["user_id"] for row in rows(lake, where, folder)]


def run(lake: Lake, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["audience", *arguments, "--data-dir", lake.data.path])


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("true", [1, 2, 3, 4]),
        ("group = 'At Risk' and monetary > 200", [1, 3]),
        ("GROUP in ('Champions', 'Prospects')", [2, 4]),
        ("\"group\" = 'At Risk' and Customer_Group <> 'the \"group\" of group' -- group", [1, 3]),
        ("segment || 'é group' = 'Active_Buyersé group' and group like 'C%'", [2]),
        ("r_score is null", [4]),
        ("probability_active is null", [2, 3, 4]),
        ("last_event_time >= '2019-10-03' and last_event_time < date '2019-10-04' and user_id < 3", [1, 2]),
        ("len(list_filter([400, 600], lambda x: x < monetary)) = 1", [1]),
        ("interest_in_product(100) >= 0.25", [1, 2]),
        ("interest_in_product('300') > 0", [2, 3, 1]),
        ("interest_in_product(100) is null", [4]),
        ("segment = 'interest_in_product(9)'", []),
    ],
)
def test_a_condition_selects_users_in_order(where: str, expected: list[int], shop: Lake, tmp_path: Path) -> None:
    assert ids(shop, where, tmp_path) == expected


def test_a_row_has_scores_used_columns_and_the_reason(shop: Lake, tmp_path: Path) -> None:
    where = "group = 'At Risk' and Monetary > 200 and monetary < 900 and conversion_rate < 0.01 and r_score < 2"
    assert rows(shop, where, tmp_path) == [
        {
            "user_id": 1,
            "segment": "Active_Buyers",
            "customer_group": "At Risk",
            **dict.fromkeys(("r_score", "f_score", "m_score"), 1),
            "monetary": 500.0,
            "conversion_rate": 0.001,
            "reason": "group = At Risk, Monetary = 500, conversion_rate = 0.001, r_score = 1",
        }
    ]
    [missing] = rows(shop, "m_score is null and last_event_time is not null", tmp_path)
    assert missing["reason"] == "m_score is null, last_event_time = 2019-10-03 10:00"


@pytest.mark.parametrize("ids", [int, str])
def test_interest_is_the_dot_product_of_the_factors(ids: type, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "data"))
    small_shop(lake, ids)
    where = "interest_in_category('TOYS') + interest_in_category('toys') >= 0 and interest_in_product(300) >= 0"
    customers = rows(lake, where, tmp_path)
    toys = {n: max(float(np.dot(vector, PRODUCTS[p])) for p in (100, 200)) for n, vector in VECTORS.items()}
    assert toys == {1: 0.5, 2: 0.625, 3: 0.25}
    assert {row["user_id"]: row["interest_in_category(toys)"] for row in customers} == {ids(n): toys[n] for n in toys}
    assert {row["user_id"]: row["interest_in_product(300)"] for row in customers} == {
        ids(n): v[1] for n, v in VECTORS.items()
    }
    assert [row["user_id"] for row in customers] == [ids(n) for n in (2, 1, 3)]


def test_the_reason_names_the_product_that_contributed_most(shop: Lake, tmp_path: Path) -> None:
    # Likeness to 100: itself 1, 200 has 0.5; times ratings 2 and 10. User 2 has only 300, which has nothing of 100.
    customers = rows(shop, "interest_in_product(100) >= 0.25", tmp_path)
    assert [row["reason"] for row in customers] == [
        "interest_in_product(100) = 0.5, because of 200 (Thing 200)",
        "interest_in_product(100) = 0.25",
    ]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("interest_in_product(999) > 0", r"interest_in_product\(999\): the model .* does not know such a product"),
        ("interest_in_product(400) > 0", r"interest_in_product\(400\): the model .* does not know such a product"),
        ("interest_in_product('x') > 0", "it is a whole number"),
        ("interest_in_product(user_id) > 0", r"needs one value: interest_in_product\(ID\)"),
        ("interest_in_category() > 0", r"needs one value: interest_in_category\('NAME'\)"),
        ("interest_in_category('toy') > 0", "no eligible product is in this category; similar categories are toys"),
        ("monetry > 1", "There is no column monetry: did you mean monetary"),
        ('group = "At Risk"', "There is no column At Risk: a text needs quotes, 'At Risk'"),
        ("monetary >", "Parser Error: syntax error"),
        ("nosuch(monetary) > 1", "nosuch"),
        ("sum(monetary) > 1", "aggregate"),
        ("row_number() over () > 1", "window"),
        ("segment::int > 1", "Conversion Error"),
        ("monetary > $1", "cannot be used"),
        ("monetary, true", "cannot be used"),
        ("true; drop table matching", "syntax error"),
        ("true) or (true", "syntax error"),
        ("true] union select [true", "syntax error"),
        ("monetary > (select 1 from read_csv('/etc/passwd'))", "cannot have a subquery"),
        ("exists (from '/etc/passwd')", "cannot have a subquery"),
        ("monetary in (from lake)", "cannot have a subquery"),
        ("columns(*) is null", r"cannot have a \*"),
        ("read_text('/etc/passwd') is null", "cannot be used"),
    ],
)
def test_an_invalid_condition_is_a_one_line_error(where: str, message: str, shop: Lake) -> None:
    with pytest.raises(AudienceError, match=message) as error, audience(shop, where):
        pass
    assert "\n" not in error.value.message


def test_columns_of_tables_that_are_not_published_are_unknown(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    publish(lake, "segmented_users", [user(7, "2019-10-01", "2019-10-03")])
    done = run(lake, "group = 'At Risk'")
    assert done.exit_code == 1
    assert "There is no column group, because customer_groups is not published" in done.stderr
    assert ids(lake, "monetary = 1", tmp_path) == [7]
    done = run(lake, "interest_in_product(1) > 0")
    assert done.exit_code == 1
    assert "interest_in_product needs a model: There is no version of recommendations" in done.stderr


def test_a_damaged_file_is_reported_as_such(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    publish(lake, "segmented_users", [user(7, "2019-10-01", "2019-10-03", "Active_Buyers")])
    [file] = tmp_path.glob("lake/segmented_users/*/*.parquet")
    content = file.read_bytes()
    assert content.count(b"Active_Buyers") > 0
    file.write_bytes(content.replace(b"Active_Buyers", b"Lapsed_Buyers", 1))
    done = run(lake, "true")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "A file cannot be read" in done.stderr
    assert "checksum" in done.stderr


def test_a_table_of_other_events_is_used_with_a_note(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    small_shop(lake)
    events = publish(lake, "cleaned_events", {"2019-10-02": [seen("2019-10-02 10:00", 1, 100)]})
    newer = pa.table({"user_id": [1], "customer_group": ["Lost"]})
    put_table(lake, "customer_groups", newer, inputs=made_from(events))
    with audience(lake, "group = 'Lost'") as customers:
        assert (customers.count, customers.used["customer_groups"].version, customers.notes) == (0, "0", [])
    publish(lake, "segmented_users", [user(1, "2019-10-01", "2019-10-03")])
    with audience(lake, "group = 'Lost'") as customers:
        assert (customers.count, customers.used["customer_groups"].version) == (1, "1")
        assert customers.notes[0].startswith("customer_groups 1 was made from other events than segmented_users 1")


def test_the_columns_are_those_of_the_tables_with_their_descriptions(shop: Lake) -> None:
    by_name = {column.name: column for column in audience_columns(shop)}
    assert (by_name["monetary"].table, by_name["monetary"].type) == ("segmented_users", "double")
    assert by_name["probability_active"].description == "The probability_active."
    assert by_name["group"].description == "The same as customer_group."
    done = run(shop, "--columns", "--json")
    assert [column["name"] for column in json.loads(done.stdout)] == list(by_name)


def test_the_command_prints_the_count_and_writes_the_file(shop: Lake, tmp_path: Path) -> None:
    file = tmp_path / "found.csv"
    file.write_text("old")
    done = run(shop, "group = 'At Risk'", "--to", str(file))
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[:2] == ["2 of 4 users (50.0 %) match.", f"Written to {file}"]
    assert lines[2:] == ["Versions: segmented_users 0, customer_groups 0"]
    header = "user_id,segment,customer_group,r_score,f_score,m_score,reason"
    assert file.read_text().splitlines() == [
        header,
        "1,Active_Buyers,At Risk,1,1,1,group = At Risk",
        "3,Active_Buyers,At Risk,2,2,2,group = At Risk",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["found.csv"]
    document = json.loads(run(shop, "group = 'Lost'", "--to", str(file), "--json").stdout)
    assert (document["count"], document["users"], document["columns"]) == (0, 4, header.split(","))
    assert document["versions"]["customer_groups"]["version"] == "0"
    assert file.read_text().splitlines() == [header]


def test_json_lines_in_memory(shop: Lake) -> None:
    with audience(shop, "user_id = 2") as customers:
        customers.write(output_file("memory://audiences/found.jsonl"))
    [row] = Folder("memory://audiences").read_bytes("found.jsonl").splitlines()
    assert json.loads(row)["reason"] == "user_id = 2"


def test_ids_in_csv_are_exact_and_escaped_if_they_are_formulas(tmp_path: Path) -> None:
    for name, users in {"number": [2**63 - 1], "text": ["=1+1", "007", "@x"]}.items():
        lake = Lake(str(tmp_path / name))
        known = [user(each, "2019-10-01", "2019-10-03") for each in users]
        publish(lake, "segmented_users", known, "string" if name == "text" else "bigint")
        assert run(lake, "true", "--to", str(tmp_path / f"{name}.csv")).exit_code == 0
    written = [(tmp_path / f"{name}.csv").read_text().splitlines()[1:] for name in ("number", "text")]
    assert [[line.partition(",")[0] for line in lines] for lines in written] == [
        ["9223372036854775807"],
        ["007", "'=1+1", "'@x"],
    ]


@pytest.mark.parametrize(
    "to", ["found.txt", "/no/such/folder/found.csv", "s3://me:hunter2@b/x.csv", "nothing://x/y.csv"]
)
def test_an_invalid_file_is_an_error_before_the_condition_is_evaluated(to: str, shop: Lake) -> None:
    done = run(shop, "true", "--to", to)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "hunter2" not in done.stderr


def test_a_failed_write_is_a_one_line_error(shop: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Folder, local: Path, name: str) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Folder, "put", fail)
    done = run(shop, "true", "--to", "memory://x/found.csv")
    assert done.exit_code == 1
    assert done.stderr == "Error: Cannot write memory://x/found.csv: No space left on device.\n"


def test_the_order_of_many_rows_is_kept(tmp_path: Path) -> None:
    lake, count = Lake(str(tmp_path)), 150_000  # more than one row group of DuckDB
    ids = np.random.default_rng(1).permutation(count)
    table = pa.table({"user_id": ids, "monetary": (ids % 1_000).astype(float), "segment": pa.repeat("x", count)})
    put_table(lake, "segmented_users", table)
    assert run(lake, "true", "--to", str(tmp_path / "found.csv")).exit_code == 0
    user_ids = duckdb.sql(f"SELECT user_id FROM '{tmp_path}/found.csv'").fetchnumpy()["user_id"]
    assert (user_ids == np.lexsort((np.arange(count), -(np.arange(count) % 1_000)))).all()
