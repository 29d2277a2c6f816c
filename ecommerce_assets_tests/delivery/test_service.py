"""The read-only service over a shop of three users and two products; a fixed list replaces fold-in."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from ecommerce_assets.cli import main
from ecommerce_assets.delivery import service
from ecommerce_assets.delivery.published import Ids, Lists
from ecommerce_assets.recommendation.fold_in import Entry, Event, FoldIn
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.helpers import put_table
from ecommerce_assets_tests.lookup.shop import listed, made_from, publish, small_shop, user


class FixedFoldIn(FoldIn):
    """Recommends 200, and 100 "because of" the first event where there is one; refuses the segment `nobody`."""

    def __init__(self, ids: type) -> None:
        self.ids = ids
        self.asked: list[Any] = []

    def recommend_for(self, events: Sequence[Event], segment: str | None = None, k: int | None = None) -> list[Entry]:
        if segment == "nobody":
            raise ValueError("segment 'nobody' is unknown.")
        self.asked.append((list(events), segment, k))
        popular = Entry(1, self.ids(200), 0.5, "popular", None)
        if not events:
            return [popular]
        return [
            Entry(1, self.ids(100), 0.9, "item_neighbours", events[0].product_id),
            Entry(2, *list(vars(popular).values())[1:]),
        ]


def client_of(lake: Lake, ids: type = int) -> TestClient:
    fold_in = FixedFoldIn(ids)
    client = TestClient(service.create_app(lake.data.uri, lambda _: fold_in))
    client.app.state.fold_in = fold_in  # type: ignore[attr-defined]
    return client


def pairs(ids: type) -> pa.Table:
    numbers = {"baskets": 3, "support": 0.25, "confidence": 0.5, "lift": 1.5}
    rows = [{"product_id": ids(100), "kind": "viewed", "rank": 1, "pair_product_id": ids(200), **numbers}]
    kind = pa.string() if ids is str else pa.int64()
    floats = [(name, pa.float64()) for name in ("support", "confidence", "lift")]
    columns = [("product_id", kind), ("kind", pa.string()), ("rank", pa.int32()), ("pair_product_id", kind)]
    return pa.Table.from_pylist(rows, schema=pa.schema([*columns, ("baskets", pa.int64()), *floats]))


@pytest.fixture(params=[int, str], ids=["bigint", "string"])
def ids(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(tmp_path: Path, ids: type) -> Iterator[TestClient]:
    lake = Lake(str(tmp_path))
    small_shop(lake, ids)
    put_table(lake, "product_pairs", pairs(ids))
    with client_of(lake, ids) as client:
        yield client


def brief(entries: Sequence[Mapping[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(entry[name] for name in ("rank", "product_id", *names)) for entry in entries]


def test_a_user_gets_the_stored_list(client: TestClient, ids: type) -> None:
    answer = client.get("/users/7/recommendations").json()
    assert (answer["user_id"], answer["version"], answer["fallback"]) == (ids(7), "0", False)
    assert brief(answer["recommendations"], "score", "source", "category", "brand") == [
        (1, ids(100), 1.0, "als", "toys", "acme"),
        (2, ids(200), 0.5, "als", "tools", None),
    ]


def test_k_cuts_a_list(client: TestClient, ids: type) -> None:
    answer = client.get("/users/7/recommendations?k=1").json()
    assert brief(answer["recommendations"]) == [(1, ids(100))]


def test_an_unknown_user_gets_what_is_popular(client: TestClient, ids: type) -> None:
    answer = client.get("/users/12345/recommendations").json()
    assert answer["fallback"] is True
    assert brief(answer["recommendations"], "source", "category") == [(1, ids(200), "popular", "tools")]


def test_the_segment_of_a_user(client: TestClient) -> None:
    known, unknown = (client.get(f"/users/{n}/segment").json() for n in (7, 12345))
    assert (known["segment_id"], known["segment"], known["fallback"]) == (1, "Active_Buyers", False)
    assert (unknown["segment"], unknown["fallback"]) == (None, True)


def test_similar_products_of_a_known_a_lonely_and_an_unknown_product(client: TestClient, ids: type) -> None:
    known, lonely, unknown = (client.get(f"/products/{n}/similar").json() for n in (100, 200, 999))
    assert brief(known["similar"], "similarity", "category") == [(1, ids(200), 0.5, "tools")]
    assert (lonely["similar"], lonely["fallback"]) == ([], False)
    assert (brief(unknown["similar"], "similarity"), unknown["fallback"]) == ([(1, ids(200), None)], True)


def test_pairs_by_kind(client: TestClient, ids: type) -> None:
    viewed, bought = (client.get(f"/products/100/pairs?kind={kind}").json() for kind in ("viewed", "bought"))
    numbers = ("baskets", "support", "confidence", "lift")
    assert brief(viewed["pairs"], *numbers) == [(1, ids(200), 3, 0.25, 0.5, 1.5)]
    assert (bought["pairs"], bought["fallback"], bought["version"]) == ([], False, "0")
    assert client.get("/products/999/pairs").json()["fallback"] is True


def test_a_lake_without_pairs_has_none(tmp_path: Path) -> None:
    small_shop(lake := Lake(str(tmp_path)))
    with client_of(lake) as client:
        answer = client.get("/products/100/pairs").json()
    assert (answer["pairs"], answer["version"], answer["fallback"]) == ([], None, False)


def test_fold_in_gets_the_events_with_the_ids_of_the_shop(client: TestClient, ids: type) -> None:
    events = [{"product_id": 100, "event_type": "cart", "event_time": "2026-01-31T10:00:00Z"}, {"product_id": "999"}]
    answer = client.post("/recommendations", json={"events": events, "segment": "VIP_Customers", "k": 5}).json()
    assert brief(answer["recommendations"], "because_product_id") == [(1, ids(100), ids(100)), (2, ids(200), None)]
    assert (answer["fallback"], answer["version"]) == (False, "0")
    moment = datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert client.app.state.fold_in.asked[-1] == (  # type: ignore[attr-defined]
        [Event(ids(100), "cart", moment), Event(ids(999), "view", None)],
        "VIP_Customers",
        5,
    )


@pytest.mark.parametrize(
    "events",
    [[], [{"product_id": 999}], [{"product_id": 100, "event_type": "remove_from_cart"}]],
    ids=["none", "unknown product", "removal"],
)
def test_events_that_say_nothing_get_the_fallback(client: TestClient, events: list[dict[str, Any]]) -> None:
    assert client.post("/recommendations", json={"events": events}).json()["fallback"] is True


@pytest.mark.parametrize(
    "path",
    [
        "/users/7/recommendations?k=0",
        "/users/7/recommendations?k=101",
        "/products/1/similar?k=x",
        "/products/1/pairs?kind=sold",
    ],
)
def test_a_query_that_cannot_be_is_refused_in_a_sentence(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"events": [{"product_id": 1.5}]},
        {"events": [{"product_id": True}]},
        {"events": [{"product_id": 1, "event_type": "like"}]},
        {"events": [{"product_id": 1, "event_time": "soon"}]},
        {"events": [{"product_id": 1}] * 1_001},
        {"events": [], "k": 0},
        {"events": [], "users": 1},
        {"events": [], "segment": "nobody"},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_a_body_that_cannot_be_is_refused_in_a_sentence(client: TestClient, body: Any) -> None:
    answer = client.post("/recommendations", json=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


def test_what_is_no_json_and_what_is_too_large_is_refused(client: TestClient) -> None:
    as_json = {"Content-Type": "application/json"}
    assert client.post("/recommendations", content=b'{"events": [', headers=as_json).status_code == 422
    assert client.post("/recommendations", content=b" " * 2_000_000, headers=as_json).status_code == 413


@pytest.mark.parametrize("wrong", ["seven", "7.5", str(2**63)])
def test_an_id_of_the_wrong_type_is_refused(tmp_path: Path, wrong: str) -> None:
    small_shop(lake := Lake(str(tmp_path)))
    with client_of(lake) as client:
        for path in (f"/users/{wrong}/segment", f"/users/{wrong}/recommendations", f"/products/{wrong}/similar"):
            assert client.get(path).status_code == 422
        assert client.post("/recommendations", json={"events": [{"product_id": wrong}]}).status_code == 422


def test_an_id_with_a_slash_is_one_id(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    publish(lake, "recommendations", listed("a/b", "x y"), "string")
    with client_of(lake, str) as client:
        answer = client.get("/users/a%2Fb/recommendations").json()
    assert brief(answer["recommendations"]) == [(1, "x y")]


def test_health_names_the_versions_and_their_age(client: TestClient) -> None:
    health = client.get("/health").json()
    assert (health["status"], health["users"], health["products"]) == ("ok", 3, 2)
    assert set(health["tables"]) == {
        *("recommendations", "segmented_users", "product_features", "similar_products", "product_pairs")
    }
    assert health["tables"]["recommendations"]["version"] == "0"
    assert 0 <= health["tables"]["recommendations"]["age_seconds"] < 60


def test_nothing_published_is_503_until_something_is(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    with client_of(lake) as client:
        paths = ("/health", "/users/7/recommendations", "/products/100/similar")
        assert [client.get(path).status_code for path in paths] == [503, 503, 503]
        small_shop(lake)
        assert client.app.state.current.refresh()  # type: ignore[attr-defined]
        assert [client.get(path).status_code for path in paths] == [200, 200, 200]


def test_a_segment_is_that_of_the_run_that_made_the_recommendations(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    old = publish(lake, "segmented_users", [user(7, "2019-10-01", "2019-10-01", "VIP_Customers")])
    publish(lake, "recommendations", listed(7, 100), inputs=made_from(old))
    publish(lake, "segmented_users", [user(7, "2019-10-01", "2019-10-01", "Dormant_Users")])
    with client_of(lake) as client:
        answer = client.get("/users/7/segment").json()
    assert (answer["segment"], answer["version"]) == ("VIP_Customers", "0")


def test_no_request_fails_while_versions_are_switched_and_each_answer_is_of_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_EVERY", 0.01)
    lake = Lake(str(tmp_path))
    publish(lake, "recommendations", listed(7, *range(10)))
    versions = set()
    with client_of(lake) as client, ThreadPoolExecutor(1) as pool:
        writer = pool.submit(
            lambda: [publish(lake, "recommendations", listed(7, *range(n * 10, n * 10 + 10))) for n in range(1, 9)]
        )
        until = time.monotonic() + 30
        while "8" not in versions and time.monotonic() < until:
            response = client.get("/users/7/recommendations")
            assert response.status_code == 200
            answer = response.json()
            first = int(answer["version"]) * 10
            assert [entry["product_id"] for entry in answer["recommendations"]] == list(range(first, first + 10))
            versions.add(answer["version"])
        writer.result()
    assert len(versions) > 1
    assert "8" in versions


def test_a_damaged_version_is_not_served(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    publish(lake, "recommendations", listed(7, 100))
    with client_of(lake) as client:
        new = publish(lake, "recommendations", listed(7, 200))
        [file] = (Path(lake.folder(new).path)).glob("*.parquet")
        file.write_bytes(b"\0" * file.stat().st_size)
        assert not client.app.state.current.refresh()  # type: ignore[attr-defined]
        answer = client.get("/users/7/recommendations").json()
    assert (answer["version"], brief(answer["recommendations"])) == ("0", [(1, 100)])


def test_the_page_of_the_requests_needs_no_network(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "://" not in page
    assert "SwaggerUIBundle" in client.get("/static-offline-docs/swagger-ui-bundle.js").text
    described = client.get("/openapi.json").json()["paths"]
    assert set(described) == {
        *("/users/{user_id}/recommendations", "/users/{user_id}/segment", "/products/{product_id}/similar"),
        *("/products/{product_id}/pairs", "/recommendations", "/health"),
    }


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 3), st.sampled_from("abc")), unique_by=lambda row: row[:2])
)
def test_the_rows_of_an_id_come_in_the_order_of_their_rank(rows: list[tuple[int, int, str]]) -> None:
    names, kinds = ("user_id", "rank", "source"), (pa.int64(), pa.int32(), pa.string())
    columns = [pa.array([row[at] for row in rows], kind) for at, kind in enumerate(kinds)]
    lists = Lists.read(ds.dataset(pa.table(dict(zip(names, columns, strict=True)))), "user_id", ["source"])
    for wanted in range(-6, 7):
        expected = [source for who, _, source in sorted(rows) if who == wanted]
        assert lists.rows(wanted) == ({"source": expected} if expected else None)


@settings(deadline=None)
@given(st.sets(st.text()), st.text())
def test_a_text_is_found_where_it_is(known: set[str], wanted: str) -> None:
    ids = Ids.of([pa.chunked_array([pa.array(list(known), pa.string())])])
    assert (ids.find(wanted) is not None) == (wanted in known)
    assert [ids.find(each) for each in ids.values.to_pylist()] == list(range(len(known)))


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_only_the_machine_itself_reaches_a_loopback_address(host: str, loopback: bool) -> None:
    assert service._is_loopback(host) == loopback


def test_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ecommerce_assets.delivery.service")
    monkeypatch.setitem(sys.modules, "fastapi", None)  # type: ignore[arg-type]
    result = CliRunner().invoke(main, ["serve"])
    assert result.exit_code == 1
    assert "uv sync --extra serve" in result.output


def test_the_command_answers_over_http(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    data_dir, _ = ran
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "ecommerce-assets"), "serve", "--port", str(port)]
    process = subprocess.Popen([*command, "--data-dir", str(data_dir)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any("Uvicorn running" in line for line in process.stderr)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/users/1/recommendations") as answer:
            assert len(json.load(answer)["recommendations"]) == 10
    finally:
        process.terminate()
        process.wait(30)
