"""The HTTP service over a shop of three users and two products, with a fixed list in place of fold-in."""

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
    """Recommends 200; before it 100 because of the first event, if there is one. The segment `nobody` is unknown."""

    def __init__(self, ids: type) -> None:
        self.ids = ids
        self.requests: list[Any] = []

    def recommend_for(self, events: Sequence[Event], segment: str | None = None, k: int | None = None) -> list[Entry]:
        if segment == "nobody":
            raise ValueError("segment 'nobody' is unknown.")
        self.requests.append((list(events), segment, k))
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


@pytest.fixture(scope="module", params=[int, str], ids=["bigint", "string"])
def ids(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, ids: type) -> Iterator[TestClient]:
    lake = Lake(str(tmp_path_factory.mktemp("shop")))
    small_shop(lake, ids)
    put_table(lake, "product_pairs", pairs(ids))
    with client_of(lake, ids) as client:
        yield client


@pytest.fixture(scope="module")
def numeric_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Of a shop with whole numbers as ids, and without pairs."""
    small_shop(lake := Lake(str(tmp_path_factory.mktemp("shop"))))
    with client_of(lake) as client:
        yield client


def brief(entries: Sequence[Mapping[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(entry[name] for name in ("rank", "product_id", *names)) for entry in entries]


def test_a_user_gets_the_first_k_of_the_stored_list(client: TestClient, ids: type) -> None:
    answer = client.get("/users/7/recommendations").json()
    assert (answer["user_id"], answer["version"], answer["fallback"]) == (ids(7), "0", False)
    assert brief(answer["recommendations"], "score", "source", "category", "brand") == [
        (1, ids(100), 1.0, "als", "toys", "acme"),
        (2, ids(200), 0.5, "als", "tools", None),
    ]
    assert client.get("/users/7/recommendations?k=1").json()["recommendations"] == answer["recommendations"][:1]


def test_an_unknown_user_gets_popular_products(client: TestClient, ids: type) -> None:
    answer = client.get("/users/12345/recommendations").json()
    assert answer["fallback"] is True
    assert brief(answer["recommendations"], "source", "category") == [(1, ids(200), "popular", "tools")]


def test_a_user_has_a_segment_if_known(client: TestClient) -> None:
    known, unknown = (client.get(f"/users/{n}/segment").json() for n in (7, 12345))
    assert (known["segment_id"], known["segment"], known["fallback"]) == (1, "Active_Buyers", False)
    assert (unknown["segment"], unknown["fallback"]) == (None, True)


def test_similar_products_are_empty_without_neighbours_and_popular_if_unknown(client: TestClient, ids: type) -> None:
    known, without, unknown = (client.get(f"/products/{n}/similar").json() for n in (100, 200, 999))
    assert brief(known["similar"], "similarity", "category") == [(1, ids(200), 0.5, "tools")]
    assert (without["similar"], without["fallback"]) == ([], False)
    assert (brief(unknown["similar"], "similarity"), unknown["fallback"]) == ([(1, ids(200), None)], True)


def test_pairs_are_of_the_requested_kind(client: TestClient, ids: type) -> None:
    viewed, bought = (client.get(f"/products/100/pairs?kind={kind}").json() for kind in ("viewed", "bought"))
    numbers = ("baskets", "support", "confidence", "lift")
    assert brief(viewed["pairs"], *numbers) == [(1, ids(200), 3, 0.25, 0.5, 1.5)]
    assert (bought["pairs"], bought["fallback"], bought["version"]) == ([], False, "0")
    assert client.get("/products/999/pairs").json()["fallback"] is True


def test_without_published_pairs_the_answer_is_empty(numeric_client: TestClient) -> None:
    answer = numeric_client.get("/products/100/pairs").json()
    assert (answer["pairs"], answer["version"], answer["fallback"]) == ([], None, False)


def test_fold_in_gets_the_events_with_ids_of_the_right_type(client: TestClient, ids: type) -> None:
    events = [{"product_id": 100, "event_type": "cart", "event_time": "2026-01-31T10:00:00Z"}, {"product_id": "999"}]
    answer = client.post("/recommendations", json={"events": events, "segment": "VIP_Customers", "k": 5}).json()
    assert brief(answer["recommendations"], "because_product_id") == [(1, ids(100), ids(100)), (2, ids(200), None)]
    assert (answer["fallback"], answer["version"]) == (False, "0")
    moment = datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert client.app.state.fold_in.requests[-1] == (  # type: ignore[attr-defined]
        [Event(ids(100), "cart", moment), Event(ids(999), "view", None)],
        "VIP_Customers",
        5,
    )


@pytest.mark.parametrize("events", [[], [{"product_id": 999}], [{"product_id": 100, "event_type": "remove_from_cart"}]])
def test_without_an_interaction_with_a_known_product_a_visitor_gets_the_fallback(
    client: TestClient, events: list[dict[str, Any]]
) -> None:
    assert client.post("/recommendations", json={"events": events}).json()["fallback"] is True


@pytest.mark.parametrize(
    "path",
    [
        *("/users/7/recommendations?k=0", "/users/7/recommendations?k=101", "/products/1/similar?k=x"),
        "/products/1/pairs?kind=sold",
        *(f"/users/{value}/segment" for value in ("seven", "7.5", 2**63)),
        *("/users/seven/recommendations", "/products/seven/similar"),
    ],
)
def test_an_invalid_path_or_query_is_422_with_a_message(numeric_client: TestClient, path: str) -> None:
    answer = numeric_client.get(path)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"events": [{"product_id": 1.5}]},
        {"events": [{"product_id": True}]},
        {"events": [{"product_id": "seven"}]},
        {"events": [{"product_id": 1, "event_type": "like"}]},
        {"events": [{"product_id": 1, "event_time": "soon"}]},
        {"events": [{"product_id": 1}] * 1_001},
        {"events": [], "k": 0},
        {"events": [], "users": 1},
        {"events": [], "segment": "nobody"},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_an_invalid_body_is_422_with_a_message(numeric_client: TestClient, body: Any) -> None:
    answer = numeric_client.post("/recommendations", json=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


def test_invalid_json_is_422_and_a_large_body_413(numeric_client: TestClient) -> None:
    as_json = {"Content-Type": "application/json"}
    assert numeric_client.post("/recommendations", content=b'{"events": [', headers=as_json).status_code == 422
    assert numeric_client.post("/recommendations", content=b" " * 2_000_000, headers=as_json).status_code == 413


def test_an_id_can_have_a_slash(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    publish(lake, "recommendations", listed("a/b", "x y"), "string")
    with client_of(lake, str) as client:
        answer = client.get("/users/a%2Fb/recommendations").json()
    assert brief(answer["recommendations"]) == [(1, "x y")]


def test_health_has_the_versions_and_their_age(client: TestClient) -> None:
    health = client.get("/health").json()
    assert (health["status"], health["users"], health["products"]) == ("ok", 3, 2)
    assert set(health["tables"]) == {
        *("recommendations", "segmented_users", "product_features", "similar_products", "product_pairs")
    }
    assert health["tables"]["recommendations"]["version"] == "0"
    assert 0 <= health["tables"]["recommendations"]["age_seconds"] < 60


def test_requests_are_503_until_recommendations_are_published(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    with client_of(lake) as client:
        paths = ("/health", "/users/7/recommendations", "/products/100/similar")
        assert [client.get(path).status_code for path in paths] == [503, 503, 503]
        small_shop(lake)
        assert client.app.state.current.refresh()  # type: ignore[attr-defined]
        assert [client.get(path).status_code for path in paths] == [200, 200, 200]


def test_segments_are_those_that_the_recommendations_were_made_from(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    old = publish(lake, "segmented_users", [user(7, "2019-10-01", "2019-10-01", "VIP_Customers")])
    publish(lake, "recommendations", listed(7, 100), inputs=made_from(old))
    publish(lake, "segmented_users", [user(7, "2019-10-01", "2019-10-01", "Dormant_Users")])
    with client_of(lake) as client:
        answer = client.get("/users/7/segment").json()
    assert (answer["segment"], answer["version"]) == ("VIP_Customers", "0")


def test_each_answer_is_of_one_version_while_versions_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REFRESH_SECONDS", 0.01)
    lake = Lake(str(tmp_path))
    publish(lake, "recommendations", listed(7, *range(10)))
    versions = set()
    with client_of(lake) as client, ThreadPoolExecutor(1) as pool:
        writer = pool.submit(
            lambda: [publish(lake, "recommendations", listed(7, *range(n * 10, n * 10 + 10))) for n in range(1, 9)]
        )
        deadline = time.monotonic() + 30
        while "8" not in versions and time.monotonic() < deadline:
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


def test_the_documentation_of_requests_needs_no_network(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "://" not in page
    assert "SwaggerUIBundle" in client.get("/static-offline-docs/swagger-ui-bundle.js").text
    described = client.get("/openapi.json").json()["paths"]
    assert set(described) == {
        *("/users/{user_id}/recommendations", "/users/{user_id}/segment", "/products/{product_id}/similar"),
        *("/products/{product_id}/pairs", "/recommendations", "/health"),
    }


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 3), st.sampled_from("abc")), unique_by=lambda row: row[:2])
)
def test_lists_return_the_rows_of_an_id_by_rank(rows: list[tuple[int, int, str]]) -> None:
    names, kinds = ("user_id", "rank", "source"), (pa.int64(), pa.int32(), pa.string())
    columns = [pa.array([row[at] for row in rows], kind) for at, kind in enumerate(kinds)]
    lists = Lists.read(ds.dataset(pa.table(dict(zip(names, columns, strict=True)))), "user_id", ["source"])
    for wanted in range(-6, 7):
        expected = [source for who, _, source in sorted(rows) if who == wanted]
        assert lists.rows(wanted) == ({"source": expected} if expected else None)


@settings(deadline=None, max_examples=50)
@given(st.sets(st.text()), st.text())
def test_ids_find_exactly_the_known_texts(known: set[str], wanted: str) -> None:
    ids = Ids.of([pa.chunked_array([pa.array(list(known), pa.string())])])
    assert (ids.find(wanted) is not None) == (wanted in known)
    assert [ids.find(each) for each in ids.values.to_pylist()] == list(range(len(known)))


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_loopback_addresses_are_recognised(host: str, loopback: bool) -> None:
    assert service._is_loopback(host) == loopback


def test_without_its_packages_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
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
