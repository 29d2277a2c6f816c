"""The commands `lookup user` and `lookup product`: text, JSON and errors."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ecommerce_assets.lookup.printing import print_user
from ecommerce_assets.lookup.users import find_user
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.command import call
from ecommerce_assets_tests.helpers import event, write_day
from ecommerce_assets_tests.lookup.shop import listed, made_from, paired, product, publish, small_shop


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


def time_of(shop: Path, asset: str) -> str:
    return f"{Lake(str(shop)).latest(asset).committed_at:%Y-%m-%d %H:%M}"


def test_a_user_is_printed_as_text(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
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

recommendations 0, made {time_of(shop, "recommendations")} UTC from events of 2019-10-01 to 2019-10-03
Note: The list has only popular products, of the segment or of the shop.
"""
    )
    _, printed, _ = run(capsys, shop, "user", "7")
    assert "#  product  category  brand  price  score  source  because of\n" in printed
    assert "1  100      toys      acme    7.25  1.000  als     200\n" in printed


def test_a_product_is_printed_as_text(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    publish(Lake(str(shop)), "product_pairs", paired(100, "viewed", 200))
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

Viewed together
#  product  category  brand  price  baskets  confidence  lift
1  200      tools             7.25        3       0.250  2.00

similar_products 0, made {time_of(shop, "similar_products")} UTC
"""
    )


def test_json_has_ids_times_and_versions(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    code, printed, _ = run(capsys, shop, "user", "7", "--json")
    answer = json.loads(printed)
    assert code == 0
    product_values = {"product_id": 100, "name": None, "category": "toys", "brand": "acme", "price": 7.25}
    reason = {"because_product_id": 200, "because_name": None}
    assert answer["recommendations"][0] == {"rank": 1, **product_values, "score": 1.0, "source": "als", **reason}
    assert [e["event_time"] for e in answer["history"]] == ["2019-10-03T10:00:00+00:00", "2019-10-01T10:00:00+00:00"]
    assert answer["features"]["first_event_time"] == "2019-10-01T10:00:00+00:00"
    assert set(answer["versions"]) == {"recommendations", "segmented_users", "product_features"}
    _, printed, _ = run(capsys, shop, "product", "100", "--json")
    assert json.loads(printed)["neighbours"][0]["product_id"] == 200


LONG = "a category with a name that no table of eighty columns has room for"


@pytest.mark.parametrize("width", [60, 120])
def test_tables_fit_the_terminal_without_losing_text(shop: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
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


def test_a_pipe_gets_one_line_per_row_without_control_characters(
    capsys: pytest.CaptureFixture[str], shop: Path
) -> None:
    lake = Lake(str(shop))
    products = publish(lake, "product_features", [product(100, LONG, f"[red]:smile: \x1b[2J {LONG}")])
    publish(lake, "recommendations", listed(7, 100), inputs=made_from(products))
    _, printed, _ = run(capsys, shop, "user", "7")
    [line] = [line for line in printed.splitlines() if line.endswith("als")]
    assert f"{LONG}  [red]:smile: �[2J {LONG}" in line
    assert "\x1b" not in printed


def test_errors_are_one_line_and_the_exit_code_is_2(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    for arguments in (("user", "99"), ("user", "x"), ("product", "99"), ("product", "x")):
        code, printed, error = run(capsys, shop, *arguments)
        assert (code, printed, error.count("\n")) == (2, "", 1)
        assert arguments[1] in error
    [file] = (shop / "lake" / "recommendations").glob("*/part-0.parquet")
    file.write_bytes(b"x" * file.stat().st_size)
    code, printed, error = run(capsys, shop, "user", "7")
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert error.endswith("uv run ecommerce-assets verify\n")


def test_a_damaged_version_is_skipped_with_a_warning(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    [file] = (shop / "lake" / "recommendations").glob("*/part-0.parquet")
    file.write_bytes(b"x")
    code, printed, error = run(capsys, shop, "user", "7")
    assert code == 0
    assert error.startswith("recommendations 0 is damaged")
    assert "Note: There is no version of recommendations in" in printed


def test_an_empty_data_dir_is_an_error_with_the_next_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, printed, error = run(capsys, tmp_path, "user", "1")
    assert (code, printed) == (2, "")
    assert error.endswith("uv run ecommerce-assets land FILE\n")
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00")])
    code, printed, error = run(capsys, tmp_path, "product")
    assert (code, printed) == (2, "")
    assert error.endswith(f" ECOMMERCE_DATA_DIR={tmp_path} uv run ecommerce-assets run\n")


def test_the_command_imports_neither_dagster_nor_spark_nor_pandas() -> None:
    program = (
        "import sys; from ecommerce_assets.cli import main; main(['lookup', 'user', '--help'], standalone_mode=False);"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "duckdb" in loaded
    assert {"dagster", "pyspark", "pandas"}.isdisjoint(loaded)
