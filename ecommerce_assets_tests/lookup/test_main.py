"""The lookup command: what it prints, for people and for programs, and how it ends."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from ecommerce_assets.lookup.printing import print_user
from ecommerce_assets.lookup.users import find_user
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.command import call
from ecommerce_assets_tests.helpers import event, write_day
from ecommerce_assets_tests.lookup.shop import listed, made_from, paired, product, publish, small_shop

Ran = tuple[Path, dg.ExecuteInProcessResult]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    small_shop(Lake(str(tmp_path)))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], shop: Path, *arguments: str) -> tuple[int, str, str]:
    code = call("lookup", *arguments, "--data-dir", str(shop))
    output = capsys.readouterr()
    return code, output.out, output.err


def made(shop: Path, asset: str) -> str:
    return f"{Lake(str(shop)).latest(asset).committed_at:%Y-%m-%d %H:%M}"


def test_a_user_for_people(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    code, printed, error = run(capsys, shop, "user", "9")
    assert (code, error) == (0, "")
    assert (
        printed
        == f"""\
User 9
segment     Active_Buyers
            3 users (100 %) who buy.
last seen   2019-10-02 10:00 UTC
active on   1 day
events      1 view, 1 cart, 1 purchase
spent       1.00
mean price  1.00

Recommendations
#  product  category  brand  price  score  source
1  100      toys      acme    7.25  1.000  segment_popular
2  200      tools             7.25  0.500  segment_popular

Newest events (UTC, up to 2019-10-03)
time              event  product  category  brand  price
2019-10-02 10:00  view   200      tools             9.50

recommendations 0, made {made(shop, "recommendations")} UTC from events of 2019-10-01 to 2019-10-03
Note: The list has only products that are popular in the segment or in the shop.
"""
    )


def test_a_reason_is_shown_where_there_is_one(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    _, printed, _ = run(capsys, shop, "user", "7")
    assert "#  product  category  brand  price  score  source  because of\n" in printed
    assert "1  100      toys      acme    7.25  1.000  als     200\n" in printed


def test_a_product_for_people(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    code, printed, error = run(capsys, shop, "product", "100")
    assert (code, error) == (0, "")
    assert (
        printed
        == f"""\
Product 100
category  toys
brand     acme
price     7.25
events    3 views, 3 carts, 3 purchases
users     3
revenue   1.00

Similar products
#  product  category  brand  price  similarity
1  200      tools             7.25       0.500

similar_products 0, made {made(shop, "similar_products")} UTC
"""
    )


def test_only_the_pairs_that_there_are_have_a_title(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    publish(Lake(str(shop)), "product_pairs", paired(100, "viewed", 200))
    _, printed, _ = run(capsys, shop, "product", "100")
    assert "Bought together" not in printed
    assert (
        """

Viewed together
#  product  category  brand  price  baskets  confidence  lift
1  200      tools             7.25        3       0.250  2.00

"""
        in printed
    )
    _, printed, _ = run(capsys, shop, "product", "100", "--json")
    assert [row["product_id"] for row in json.loads(printed)["viewed_together"]] == [200]


def test_without_an_id_some_are_named_and_can_be_looked_up(capsys: pytest.CaptureFixture[str], ran: Ran) -> None:
    for what in ("user", "product"):
        code, printed, _ = run(capsys, ran[0], what)
        assert code == 0
        assert printed.endswith(f"Look one up: uv run ecommerce-assets lookup {what} ID\n")
        first = printed.splitlines()[2].split()[0]
        code, printed, _ = run(capsys, ran[0], what, first)
        assert (code, printed.splitlines()[0]) == (0, f"{what.capitalize()} {first}")
        code, printed, _ = run(capsys, ran[0], what, "--json")
        assert str(json.loads(printed)[0][f"{what}_id"]) == first


def test_for_programs(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    code, printed, _ = run(capsys, shop, "user", "7", "--json")
    answer = json.loads(printed)
    assert code == 0
    assert answer["recommendations"][0] == {
        "rank": 1,
        "product_id": 100,
        "name": None,
        "category": "toys",
        "brand": "acme",
        "price": 7.25,
        "score": 1.0,
        "source": "als",
        "because_product_id": 200,
        "because_name": None,
    }
    assert [e["event_time"] for e in answer["history"]] == ["2019-10-03T10:00:00+00:00", "2019-10-01T10:00:00+00:00"]
    assert answer["features"]["first_event_time"] == "2019-10-01T10:00:00+00:00"
    assert set(answer["versions"]) == {"recommendations", "segmented_users", "product_features"}
    code, printed, _ = run(capsys, shop, "product", "100", "--json")
    assert json.loads(printed)["neighbours"][0]["product_id"] == 200


LONG = "a category with a name that no table of eighty columns has room for"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_lost_or_sticks_out_in_a_terminal(shop: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    lake = Lake(str(shop))
    products = publish(lake, "product_features", [product(10**18, LONG, "acme")])
    publish(lake, "recommendations", listed(7, 10**18), inputs=made_from(products))
    screen = Terminal()
    print_user(find_user(lake, "7"), screen)
    lines = re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    assert str(10**18) in screen.getvalue()
    assert all(word in screen.getvalue() for word in LONG.split())


def test_a_pipe_gets_one_line_per_row_and_no_colours(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    lake = Lake(str(shop))
    odd = "[red]:smile: \x1b[2J " + LONG
    products = publish(lake, "product_features", [product(100, LONG, odd)])
    publish(lake, "recommendations", listed(7, 100), inputs=made_from(products))
    _, printed, _ = run(capsys, shop, "user", "7")
    [line] = [line for line in printed.splitlines() if line.endswith("als")]
    assert LONG in line
    assert f"[red]:smile: �[2J {LONG}" in line, "the shop's own words, but nothing that moves a cursor"
    assert "\x1b" not in printed


def test_what_cannot_be_answered_is_one_sentence(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    for arguments in (("user", "99"), ("user", "x"), ("product", "99"), ("product", "x")):
        code, printed, error = run(capsys, shop, *arguments)
        assert (code, printed, error.count("\n")) == (2, "", 1)
        assert arguments[1] in error


def test_a_damaged_file_is_one_sentence(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    [file] = (shop / "lake" / "recommendations").glob("*/part-0.parquet")
    file.write_bytes(b"x" * file.stat().st_size)
    code, printed, error = run(capsys, shop, "user", "7")
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert error.endswith("uv run ecommerce-assets verify finds it.\n")
    file.write_bytes(b"x")
    code, printed, error = run(capsys, shop, "user", "7")
    assert code == 0
    assert error.startswith("recommendations 0 is damaged (1 files missing or of another size")
    assert "Note: There is no version of recommendations in" in printed


def test_where_nothing_is_stored_the_command_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, printed, error = run(capsys, tmp_path, "user", "1")
    assert (code, printed) == (2, "")
    assert "start with uv run ecommerce-assets land FILE" in error
    for day in ("2019-10-01", "2019-10-03"):
        write_day(tmp_path, day, [event(f"{day} 10:00")])
    code, printed, error = run(capsys, tmp_path, "product")
    assert (code, printed) == (2, "")
    assert error.endswith(f"this makes it: ECOMMERCE_DATA_DIR={tmp_path} uv run ecommerce-assets run\n")


def test_it_starts_without_what_is_slow_to_import() -> None:
    program = (
        "import sys; from ecommerce_assets.cli import main; main(['lookup', 'user', '--help'], standalone_mode=False);"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "duckdb" in loaded
    assert {"dagster", "pyspark", "pandas"}.isdisjoint(loaded)
