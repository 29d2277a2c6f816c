"""The options of landing for files with other columns, and options that are refused."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_assets.events import landing
from ecommerce_assets.events.landing import LandingError, Layout, land
from ecommerce_assets_tests.command import land as main
from ecommerce_assets_tests.events.landing_files import (
    HEADER,
    NEXT_DAY,
    ROW,
    SHORT_HEADER,
    Row,
    csv_file,
    days,
    events_table,
    land_one,
    landed,
)

README = Path(landing.__file__).parent / "README.md"

RETAIL_ROCKET = (
    "timestamp,visitorid,event,itemid,transactionid\n"
    "1433221332117,257597,view,355908,\n"
    "1433224214164,992329,addtocart,248676,\n"
    "1433203199999,483717,transaction,253185,4000\n"
)
DATA_SETS: dict[str, tuple[str, str, list[Row]]] = {
    "retail": (
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,WHITE HANGING HEART,6,01/12/2010 08:26,2.55,17850,United Kingdom\n"
        "536365,22752,SET OF 7 £1 BOXES,2,01/12/2010 08:26,7.65,17850.0,United Kingdom\n"
        "536365,22752,SET OF 7 £1 BOXES,2,01/12/2010 08:26,7.65,17850.0,United Kingdom\n"
        'C536379,D,"Discount, £",-1,01/12/2010 09:41,27.5,14527,United Kingdom\n'
        "536414,22139,,56,13/12/2010 11:52,0,,United Kingdom\n",
        "event_time, event_type, product_id, price, user_id, user_session, event_id",
        [
            (datetime(2010, 12, 1, 8, 26), "purchase", "22752", 15.3, "17850", "536365", "536365-22752-2-7.65-1"),
            (datetime(2010, 12, 1, 8, 26), "purchase", "22752", 15.3, "17850", "536365", "536365-22752-2-7.65-2"),
            (datetime(2010, 12, 1, 8, 26), "purchase", "85123A", 15.3, "17850", "536365", "536365-85123A-6-2.55-1"),
        ],
    ),
    "retailrocket": (
        RETAIL_ROCKET,
        "event_time, event_type, product_id, price, user_id",
        [
            (datetime(2015, 6, 1, 23, 59, 59, 999_000), "purchase", 253185, 0.0, 483717),
            (datetime(2015, 6, 2, 5, 2, 12, 117_000), "view", 355908, 0.0, 257597),
            (datetime(2015, 6, 2, 5, 50, 14, 164_000), "cart", 248676, 0.0, 992329),
        ],
    ),
    "diginetica": (
        "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n2;47;31331;86399999;2016-05-09\n",
        "event_time, event_type, product_id, price, user_id, user_session",
        [
            (datetime(2016, 5, 9, 0, 8, 46, 309_000), "view", 81766, 0.0, -1, "1"),
            (datetime(2016, 5, 9, 23, 59, 59, 999_000), "view", 31331, 0.0, 47, "2"),
        ],
    ),
    "tianchi": (
        "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,fav,1511561733\n1,2576651,149192,cart,1511572885\n"
        "1,3830808,4181361,buy,1511593493\n",
        "event_time, event_type, product_id, category_id, user_id",
        [
            (datetime(2017, 11, 24, 17, 21, 10), "view", 2268318, 2520377, 1),
            (datetime(2017, 11, 25, 1, 21, 25), "cart", 2576651, 149192, 1),
            (datetime(2017, 11, 25, 7, 4, 53), "purchase", 3830808, 4181361, 1),
        ],
    ),
    "olist": (
        '"order_id","order_item_id","product_id","seller_id","shipping_limit_date","price","freight_value"\n'
        '"00010242fe8c","1","4244733e06e7","48436dade18a",2017-09-19 09:45:35,58.90,13.29\n'
        '"00010242fe8c","2","4244733e06e7","48436dade18a",2017-09-19 09:45:35,58.90,13.29\n',
        "event_time, event_type, product_id, price, user_id, event_id",
        [
            (datetime(2017, 9, 19, 9, 45, 35), "purchase", "4244733e06e7", 58.9, "00010242fe8c", f"00010242fe8c-{n}")
            for n in (1, 2)
        ],
    ),
}


def readme_commands() -> dict[str, list[str]]:
    """The arguments of each command of the README, by the name of its data dir."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    commands = [shlex.split(block.replace("\\\n", "")) for block in blocks]
    return {words[words.index("--data-dir") + 1].removeprefix("~/"): words for words in commands}


@pytest.mark.parametrize("name", DATA_SETS)
def test_command_of_the_readme_lands_every_row_of_the_data_set(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    text, columns, rows = DATA_SETS[name]
    words = readme_commands()[name]
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    assert words[:4] == ["uv", "run", "ecommerce-assets", "land"]
    (tmp_path / words[4]).write_bytes(text.encode("latin-1" if "latin-1" in words else "utf-8"))
    monkeypatch.chdir(tmp_path)
    assert main([str(data_dir) if word == f"~/{name}" else word for word in words[4:]]) == 0
    assert landed(data_dir, columns) == sorted(rows, key=str)
    assert landed(data_dir, "DISTINCT reject_reason") == [(None,)] * len(days(data_dir))


SUGGESTIONS = {
    "retail_rocket": RETAIL_ROCKET,
    "blanks": "Invoice,StockCode,InvoiceDate,Price,Customer ID\n1,10,2019-10-01 08:26:00,2.55,17\n",
    "quotes": "'event_time',event_type,product_id,price,user_id\n2019-10-01,view,1,1,1\n",
    "no_header": "2019-10-01,view,1,,,,1.5,2,s\n",
    "latin": f"{SHORT_HEADER},caf\xe9\n2019-10-01,view,1,1,1,\xe9\n",
    "times": f"{SHORT_HEADER}\n01/10/2019 10:00,view,1,1,1\n",
    "event_type": "event_time,product_id,price,user_id\n2019-10-01,1,1,1\n",
}


@pytest.mark.parametrize("name", SUGGESTIONS)
def test_suggested_options_can_be_pasted_and_land_the_file(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / f"{name}.csv"
    path.write_bytes(SUGGESTIONS[name].encode("latin-1"))
    command = [str(path), "--data-dir", str(data_dir)]
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    (advice,) = re.findall(r"(?:add|such as) (--\w.*?)(?: if .*)?\.?$", error)
    assert main([*command, *shlex.split(advice)]) == 0
    assert len(landed(data_dir)) == SUGGESTIONS[name].count("\n") - (name != "no_header")


def test_compute_overrides_a_column_and_fills_an_absent_one(tmp_path: Path, data_dir: Path) -> None:
    path = csv_file(tmp_path, ROW.replace("1.50", '"1,50"'), NEXT_DAY)
    options = ["price=replace(price, ',', '.')", "event_id=user_id || '-' || user_session", "brand=upper(brand) -- why"]
    summary = land_one(path, data_dir, compute=options)
    assert landed(data_dir, "price, event_id, brand, reject_reason") == [(1.5, "3-s1", "ACME", None)] * 2
    assert summary.sources[0].absent_columns == ()


def test_where_excludes_rows_and_counts_them(tmp_path: Path, data_dir: Path) -> None:
    path = csv_file(tmp_path, ROW, NEXT_DAY, NEXT_DAY, ROW + ",too,long")
    (source,) = land_one(path, data_dir, where=["event_type <> 'view' OR brand IS NULL", "price = '1.50'"]).sources
    assert (source.rows_read, source.rows_left_out, source.rows_landed) == (4, 1, 3)
    assert days(data_dir) == ["2019-10-02"]
    with pytest.raises(LandingError, match="--where excludes all 2 rows"):
        land_one(csv_file(tmp_path, ROW, ROW), data_dir, where=["false"])


def test_maps_and_defaults_apply_to_folder_names_too(tmp_path: Path, data_dir: Path) -> None:
    part = tmp_path / "export" / "kind=addtocart"
    part.mkdir(parents=True)
    table = events_table().drop_columns(["event_type", "price"]).rename_columns(['t "x"', "product_id", "who"])
    pq.write_table(table, part / "a.parquet")
    maps = ['t "x"=event_time', "who=user_id", "kind=event_type"]
    land_one(
        tmp_path / "export", data_dir, columns=maps, events=["addtocart=cart"], defaults=["price=9.5", "brand=it's"]
    )
    assert landed(data_dir, "event_type, price, brand, user_id") == [("cart", 9.5, "it's", 9007199254740993123)]


def test_columns_can_be_swapped_and_defaults_do_not_replace_values(tmp_path: Path, data_dir: Path) -> None:
    path = csv_file(tmp_path, ROW, ROW.replace("acme", ""))
    swap = ["brand=category_code", "category_code=brand"]
    with pytest.raises(LandingError, match="already has a column category_code"):
        land_one(path, data_dir, columns=swap)
    land_one(path, data_dir, compute=swap, defaults=["brand=none-given", "price=7"])
    assert landed(data_dir, "brand, category_code, price") == [("a.b", "acme", 1.5), ("a.b", None, 1.5)]


def test_header_and_encoding_of_csv_files(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(ROW.replace("acme", "caf\xe9").replace(",", "|").encode("latin-1"))
    land_one(path, data_dir, header=HEADER, encoding="latin-1")
    assert landed(data_dir, "brand") == [("café",)]
    with pytest.raises(LandingError, match=r"has 9 values .* --header names 2 columns"):
        land_one(path, data_dir, header="a,b", encoding="latin-1")


def test_other_options_are_refused_until_the_first_landing_is_removed(tmp_path: Path, data_dir: Path) -> None:
    path = csv_file(tmp_path, ROW, NEXT_DAY)
    options = ["price=1", "brand=upper(brand)"]
    land_one(path, data_dir, compute=options)
    assert land_one(path, data_dir, compute=options[::-1]).sources[0].rows_already_landed == 2
    with pytest.raises(LandingError, match="already landed, with other options") as error:
        land_one(path, data_dir, compute=["price=2"])
    subprocess.run(["sh", "-c", str(error.value).partition("with: ")[2]], check=True)
    assert not [file for file in data_dir.glob("raw/events/**/*") if file.is_file()]
    land_one(path, data_dir, compute=["price=2"])
    assert landed(data_dir, "price") == [(2.0,), (2.0,)]


REFUSED_SQL: list[tuple[str, str, str]] = [
    ("--compute", "price=price +", "Parser Error"),
    ("--compute", "price=nothing", 'Referenced column "nothing" not found'),
    ("--compute", "price=1); COPY (SELECT 1) TO 'x.csv'; SELECT (1", "Parser Error"),
    ("--compute", "price=1, 2", "must be one SQL expression"),
    ("--compute", "price=*", "STAR"),
    ("--compute", "price=sum(CAST(price AS DOUBLE))", "GROUP BY"),
    ("--compute", "price=unnest([1, 2])", "UNNEST"),
    ("--compute", "brand=(SELECT content FROM read_text('/etc/passwd'))", "Permission Error"),
    ("--compute", "brand=(SELECT any_value(c) FROM read_csv('/etc/passwd', columns={'c': 'VARCHAR'}))", "Permission"),
    ("--compute", "price=CAST(brand AS DOUBLE)", "Could not convert string 'acme'"),
    ("--compute", "price=CAST(brand AS DOUBLE) * 2", "Could not convert string 'acme'"),
    ("--compute", "event_time=strptime(event_time, '%d/%m/%Y')", "Could not parse string"),
    ("--where", "brand = ", "Parser Error"),
    ("--where", "true) OR (true", "Parser Error"),
    ("--where", "brand", "Could not convert string 'acme'"),
    ("--where", "count(*) > 1", "GROUP BY"),
    ("--where", "row_number() OVER () = 1", "window"),
]


@pytest.mark.parametrize(("option", "text", "reason"), REFUSED_SQL)
def test_invalid_sql_is_refused_with_its_option(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], option: str, text: str, reason: str
) -> None:
    good = ["--compute", "event_id=row_number() OVER ()"]
    assert main([str(csv_file(tmp_path, ROW)), "--data-dir", str(data_dir), *good, option, text]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"{option} {shlex.quote(text)}")
    assert reason in error
    assert not days(data_dir)


REFUSED_OPTIONS: list[tuple[Sequence[str], str]] = [
    (["--map", "visitorid"], "--map visitorid is not of the form SOURCE=TARGET"),
    (["--map", "visitorid=visitor"], "--map visitorid=visitor: visitor"),
    (["--map", "a=price", "--map", "b=price"], "price is set by 2 options"),
    (["--map", "a=price", "--compute", "price=1"], "price is set by 2 options"),
    (["--map", "a=price", "--map", "a=brand"], "--map a is given twice, as price and as brand"),
    (["--map", "visitorid=brand"], "FILE has no column visitorid"),
    (["--map", "x=price"], "FILE already has a column price"),
    (["--map-event", "addtocart=basket"], "--map-event addtocart=basket: basket"),
    (["--compute", "cost=1"], "--compute cost=1: cost"),
    (["--compute", "price="], "--compute price= is not of the form NAME=SQL"),
    (["--default", "user_id=1"], "--default user_id=1: user_id"),
    (["--default", "price=abc"], "--default price=abc: a price must be a number"),
    (["--default", "event_type=wish"], "--default event_type=wish: wish"),
]


@pytest.mark.parametrize(("options", "beginning"), REFUSED_OPTIONS)
def test_invalid_option_is_refused(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], options: Sequence[str], beginning: str
) -> None:
    path = csv_file(tmp_path, f"{ROW},1", header=f"{HEADER},x")
    assert main([str(path), "--data-dir", str(data_dir), *options]) == 2
    assert capsys.readouterr().err.startswith(beginning.replace("FILE", str(path)))
    assert not data_dir.exists()


def test_columns_that_differ_in_case_are_refused_if_one_is_used(tmp_path: Path, data_dir: Path) -> None:
    path = csv_file(tmp_path, "2019-10-01,view,1,1,1,UP,low", header=f"{SHORT_HEADER},SKU,Sku")
    assert land([str(path)], data_dir).sources[0].rows_landed == 1
    for options in ({"columns": ["Sku=brand"]}, {"compute": ['brand="SKU"']}):
        with pytest.raises(LandingError, match="has the columns SKU and Sku: rename or remove one of them"):
            land([str(path)], data_dir / "other", Layout.parse(**options))


def test_hints_use_the_mapped_column_and_trim_event_names(tmp_path: Path, data_dir: Path) -> None:
    header = SHORT_HEADER.replace("price", "Preis").replace("event_time", "Zeit")
    rows = ['2019-10-01, buy ,1,"1,5",1', "01/10/2019 10:00,buy,1,2,1", "2019-10-01,buyer,1,2,1"]
    path = csv_file(tmp_path, *rows, header=header)
    maps = Layout.parse(columns=["Preis=price", "Zeit=event_time"], events=["buy=purchase"])
    summary = str(land([str(path)], data_dir, maps))
    assert "--map-event" in summary
    compute = [shlex.split(advice)[0] for advice in re.findall(r"such as --compute ('.*')", summary)]
    layout = Layout.parse(compute, events=["buy=purchase", "buyer=purchase"])
    (source,) = land([str(path)], data_dir / "again", layout).sources
    assert not source.unreadable


def test_window_function_over_files_of_different_types_is_refused(tmp_path: Path, data_dir: Path) -> None:
    folder = tmp_path / "x.parquet"
    folder.mkdir()
    for name, kind in (("part-0", pa.int64()), ("part-1", pa.string())):
        pq.write_table(events_table(2, product_id=pa.array([1, 2]).cast(kind)), folder / f"{name}.parquet")
    with pytest.raises(LandingError, match="window function"):
        land([str(folder)], data_dir, Layout.parse(["event_id=row_number() OVER ()"]))
