"""Shops with other names, other times, other delimiters: what lands, what is said, and what is refused."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from ecommerce_assets.events.cleaning import accepted_events, classify, count_by_day
from ecommerce_assets.events.landing import LandingError, LandingSummary, Layout, land
from ecommerce_assets.events.landing.__main__ import main
from ecommerce_assets.events.raw import find_raw_events
from ecommerce_assets_tests.events.landing_files import HEADER, ROW, csv_file, days, events_table, land_one, landed

RETAIL_ROCKET = (
    "1433221332117,257597,view,355908,",
    "1433224214164,992329,addtocart,248676,",
    "1433203199999,483717,transaction,253185,4000",
)
RETAIL_ROCKET_HEADER = "timestamp,visitorid,event,itemid,transactionid"
RETAIL_ROCKET_LAYOUT = Layout.parse(
    ["timestamp=event_time", "visitorid=user_id", "event=event_type", "itemid=product_id"],
    ["addtocart=cart", "transaction=purchase"],
    ["price=0"],
)
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
SHORT_HEADER = "event_time,event_type,product_id,price,user_id"


def retail_rocket(folder: Path) -> Path:
    return csv_file(folder, *RETAIL_ROCKET, header=RETAIL_ROCKET_HEADER)


def land_as(path: Path, data_dir: Path, layout: Layout) -> LandingSummary:
    return land([str(path)], data_dir, layout)


class TestRetailRocket:
    def test_cleaning_accepts_every_row(self, tmp_path: Path, data_dir: Path, spark: SparkSession) -> None:
        land_as(retail_rocket(tmp_path), data_dir, RETAIL_ROCKET_LAYOUT)
        assert days(data_dir) == ["2015-06-01", "2015-06-02"]
        raw = find_raw_events(str(data_dir), days(data_dir))
        classified = classify(raw.frames(spark))
        assert {day: counts["accepted"] for day, counts in count_by_day(classified).items()} == {
            "2015-06-01": 1,
            "2015-06-02": 2,
        }
        rows = accepted_events(classified).select("event_time", "event_type", "product_id", "price", "user_id")
        assert sorted(map(tuple, rows.collect())) == [
            (datetime(2015, 6, 1, 23, 59, 59, 999_000), "purchase", 253185, 0.0, 483717),
            (datetime(2015, 6, 2, 5, 2, 12, 117_000), "view", 355908, 0.0, 257597),
            (datetime(2015, 6, 2, 5, 50, 14, 164_000), "cart", 248676, 0.0, 992329),
        ]

    def test_the_summary_says_what_was_changed(self, tmp_path: Path, data_dir: Path) -> None:
        text = str(land_as(retail_rocket(tmp_path), data_dir, RETAIL_ROCKET_LAYOUT))
        assert "columns mapped: timestamp → event_time, visitorid → user_id" in text
        assert "events mapped: addtocart → cart (1 row), transaction → purchase (1 row)" in text
        assert "defaults: price = 0 in every row" in text
        assert "event_time: milliseconds since 1970, landed as times in UTC" in text
        assert "unknown events" not in text
        assert "set ECOMMERCE_FIRST_DAY=2015-06-01" in text

    def test_without_options_the_error_names_them(self, tmp_path: Path, data_dir: Path) -> None:
        path = retail_rocket(tmp_path)
        with pytest.raises(LandingError) as error:
            land_one(path, data_dir)
        assert str(error.value) == (
            f"{path} lacks the columns event_time, event_type, product_id, price, user_id; "
            "it has timestamp, visitorid, event, itemid, transactionid: add --map timestamp=event_time "
            "--map event=event_type --map itemid=product_id --default price=0 --map visitorid=user_id."
        )

    def test_event_names_that_nothing_was_said_of_are_reported(self, tmp_path: Path, data_dir: Path) -> None:
        layout = Layout(RETAIL_ROCKET_LAYOUT.columns, {}, RETAIL_ROCKET_LAYOUT.defaults)
        text = str(land_as(retail_rocket(tmp_path), data_dir, layout))
        assert "cleaning will reject them; name them with --map-event NAME=TYPE:\n      addtocart: 1 row\n" in text


class TestMappings:
    def test_parquet_columns_and_folder_names(self, tmp_path: Path, data_dir: Path) -> None:
        part = tmp_path / "drop" / "kind=addtocart"
        part.mkdir(parents=True)
        table = events_table().drop_columns(["event_type", "price"]).rename_columns(['t "x"', "product_id", "who"])
        pq.write_table(table, part / "a.parquet")
        layout = Layout.parse(
            ['t "x"=event_time', "who=user_id", "kind=event_type"], ["addtocart=cart"], ["price=9.5", "brand=it's"]
        )
        summary = land_as(tmp_path / "drop", data_dir, layout)
        assert landed(data_dir, "event_type, price, brand, user_id") == [("cart", "9.5", "it's", 9007199254740993123)]
        assert summary.sources[0].events == (("addtocart", "cart", 1),)

    def test_a_default_leaves_a_column_that_is_there_alone(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW.replace("1.50", ""), ROW)
        content = land_one(path, data_dir).sources[0].content
        (source,) = land_as(path, data_dir, Layout.parse(defaults=["price=0"])).sources
        assert landed(data_dir, "price") == [("1.50",), (None,)]
        assert (source.content, source.rows_already_landed, source.defaults) == (content, 2, ())

    def test_columns_can_change_places(self, tmp_path: Path, data_dir: Path) -> None:
        layout = Layout.parse(["brand=category_code", "category_code=brand"])
        land_as(csv_file(tmp_path, ROW), data_dir, layout)
        assert landed(data_dir, "brand, category_code") == [("a.b", "acme")]

    def test_spaces_around_a_name_do_not_hide_it(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW.replace("view", " buy "), ROW.replace("view", "buyer"))
        land_as(path, data_dir, Layout.parse(events=["buy=purchase"]))
        assert landed(data_dir, "event_type") == [("buyer",), ("purchase",)]

    def test_a_mapping_works_on_lines_that_had_to_be_mended(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, *RETAIL_ROCKET, "1433221332117,1", "a,b,c,d,e,f", header=RETAIL_ROCKET_HEADER)
        (source,) = land_as(path, data_dir, RETAIL_ROCKET_LAYOUT).sources
        assert (source.rows_landed, source.unreadable_lines.count, source.short_lines.count) == (4, 1, 1)
        assert source.events == (("addtocart", "cart", 1), ("transaction", "purchase", 1))

    def test_the_order_of_the_options_means_nothing(self, tmp_path: Path, data_dir: Path) -> None:
        path = retail_rocket(tmp_path)
        land_as(path, data_dir, RETAIL_ROCKET_LAYOUT)
        backwards = Layout(*(dict(reversed(p.items())) for p in vars(RETAIL_ROCKET_LAYOUT).values()))
        assert land_as(path, data_dir, backwards).sources[0].rows_already_landed == 3

    def test_the_same_file_with_other_options_is_refused_until_the_first_is_removed(
        self, tmp_path: Path, data_dir: Path
    ) -> None:
        path = retail_rocket(tmp_path)
        wrong = Layout(RETAIL_ROCKET_LAYOUT.columns, {"addtocart": "view"}, RETAIL_ROCKET_LAYOUT.defaults)
        content = land_as(path, data_dir, wrong).sources[0].content
        with pytest.raises(LandingError, match="was landed before with other options") as error:
            land_as(path, data_dir, RETAIL_ROCKET_LAYOUT)
        pattern = f"raw/events/event_date=*/land-{content}-*.parquet"
        assert str(error.value).endswith(f'for f in {data_dir}/{pattern}; do rm -f "$f" "${{f%/*}}/_SUCCESS"; done')
        subprocess.run(["sh", "-c", str(error.value).partition("with: ")[2]], check=True)
        assert not [file for file in data_dir.glob("raw/events/**/*") if file.is_file()]
        assert land_as(path, data_dir, RETAIL_ROCKET_LAYOUT).sources[0].rows_landed == 3
        assert sorted(landed(data_dir, "event_type")) == [("cart",), ("purchase",), ("view",)]


MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31, 23, 59, 59, 999_999))


class TestTimesSince1970:
    @settings(max_examples=20, deadline=None)
    @given(unit=st.sampled_from(list(UNITS)), moments=st.lists(MOMENTS, min_size=1, max_size=20), typed=st.booleans())
    def test_every_time_lands_exactly(
        self, tmp_path_factory: pytest.TempPathFactory, unit: str, moments: list[datetime], typed: bool
    ) -> None:
        folder = tmp_path_factory.mktemp("times")
        per_second = UNITS[unit]
        microseconds = [
            (m.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for m in moments
        ]
        numbers = [micro * per_second // 10**6 for micro in microseconds]
        if typed:
            pq.write_table(events_table(len(numbers), event_time=pa.array(numbers, pa.int64())), folder / "e.parquet")
        else:
            csv_file(folder, *(f"{number},view,1,1,1" for number in numbers), header=SHORT_HEADER, name="e.csv")
        (path,) = folder.iterdir()
        summary = land_one(path, folder / "shop")
        step = max(1, 10**6 // per_second)
        expected = [datetime(1970, 1, 1) + timedelta(microseconds=micro // step * step) for micro in microseconds]
        texts = [text for (text,) in landed(folder / "shop", "event_time")]
        assert sorted(datetime.fromisoformat(text.removesuffix(" UTC")) for text in texts) == sorted(expected)
        assert all(text.endswith(" UTC") for text in texts)
        assert sorted({str(moment.date()) for moment in expected}) == days(folder / "shop")
        assert summary.sources[0].notes[0].startswith(f"event_time: {unit} since 1970")

    def test_seconds_with_a_fraction(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, "1433221332.117,view,1,1,1", " 1433221332 ,view,1,1,1", header=SHORT_HEADER)
        land_one(path, data_dir)
        pq.write_table(events_table(event_time=pa.array([1433221333.25])), tmp_path / "double.parquet")
        land_one(tmp_path / "double.parquet", data_dir)
        assert landed(data_dir, "event_time") == [
            ("2015-06-02 05:02:12 UTC",),
            ("2015-06-02 05:02:12.117 UTC",),
            ("2015-06-02 05:02:13.25 UTC",),
        ]

    @settings(max_examples=10, deadline=None)
    @given(milliseconds=st.lists(st.integers(946_684_800_000, 4_102_444_799_999), min_size=1, max_size=50))
    def test_doubles_keep_every_millisecond(
        self, tmp_path_factory: pytest.TempPathFactory, milliseconds: list[int]
    ) -> None:
        folder = tmp_path_factory.mktemp("doubles")
        times = pa.array([float(number) for number in milliseconds])
        pq.write_table(events_table(len(milliseconds), event_time=times), folder / "e.parquet")
        land_one(folder / "e.parquet", folder / "shop")
        texts = [text.removesuffix(" UTC") for (text,) in landed(folder / "shop", "event_time")]
        expected = [datetime(1970, 1, 1) + timedelta(milliseconds=number) for number in milliseconds]
        assert sorted(map(datetime.fromisoformat, texts)) == sorted(expected)

    def test_large_doubles(self, tmp_path: Path, data_dir: Path) -> None:
        times = pa.array([1433221332117.0, None, float("nan")], pa.float64())
        pq.write_table(events_table(3, event_time=times), tmp_path / "double.parquet")
        summary = land_one(tmp_path / "double.parquet", data_dir)
        assert landed(data_dir, "event_time") == [("2015-06-02 05:02:12.117 UTC",), ("nan",), (None,)]
        assert summary.sources[0].rows_without_time == 2

    def test_one_unit_for_a_file_and_what_is_not_of_it_stays_and_has_no_time(
        self, tmp_path: Path, data_dir: Path
    ) -> None:
        times = ["1433221332117", "1433221332", "1433221332118", "17", "", "soon"]
        path = csv_file(tmp_path, *(f"{time},view,1,1,1" for time in times), header=SHORT_HEADER)
        summary = land_one(path, data_dir)
        assert summary.sources[0].rows_without_time == 4
        found = [time for (time,) in landed(data_dir, "event_time")]
        assert {"1433221332", "17", "soon", None} < set(found)

    def test_numbers_among_dates_are_no_times(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW, ROW, ROW.replace("2019-10-01 00:00:00 UTC", "1569888000"))
        assert land_one(path, data_dir).sources[0].rows_without_time == 1

    @pytest.mark.parametrize("time", ["20191001120000", "201910011200", "1569888", "99999999999"])
    def test_numbers_that_are_no_times_since_1970(self, tmp_path: Path, data_dir: Path, time: str) -> None:
        path = csv_file(tmp_path, f"{time},view,1,1,1", header=SHORT_HEADER)
        with pytest.raises(LandingError, match=f"the first one is '{time}'"):
            land_one(path, data_dir)


class TestDelimiters:
    @pytest.mark.parametrize(("mark", "said"), [(";", "';'"), ("\t", "tabs"), ("|", "'|'")])
    @pytest.mark.parametrize("flaw", [False, True])
    def test_other_delimiters(self, tmp_path: Path, data_dir: Path, mark: str, said: str, flaw: bool) -> None:
        lines = [ROW.replace(",", mark), ROW.replace("acme", '"a, b"').replace(",", mark).replace(f"a{mark} b", "a, b")]
        bad = [f"{lines[0]}{mark}x"] if flaw else []
        path = csv_file(tmp_path, *lines, *bad, header=HEADER.replace(",", mark))
        (source,) = land_one(path, data_dir).sources
        assert landed(data_dir, "brand, price, user_session") == [("a, b", "1.50", "s1"), ("acme", "1.50", "s1")]
        assert source.unreadable_lines.count == len(bad)
        assert f"columns are separated by {said}" in source.notes

    def test_decimal_commas_are_told(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW.replace(",", ";").replace("1.50", "1,50"), header=HEADER.replace(",", ";"))
        assert "price: 1 with a comma, such as 1,50, which cleaning rejects; write a point" in str(
            land_one(path, data_dir)
        )


ODD_OPTIONS: list[tuple[Sequence[str], str]] = [
    (["--map", "visitorid"], "--map visitorid cannot be read: it takes SOURCE=TARGET, both not empty."),
    (["--map", "=user_id"], "--map =user_id cannot be read: it takes SOURCE=TARGET, both not empty."),
    (
        ["--map", "visitorid=visitor"],
        "--map visitorid=visitor: visitor is no event column; there are event_time, event_type, product_id, "
        "category_id, category_code, brand, price, user_id, user_session.",
    ),
    (
        ["--map", "a=price", "--map", "b=price"],
        "--map a=price and --map b=price name the same column; a column is made from one column only.",
    ),
    (["--map", "a=price", "--map", "a=brand"], "--map a is given twice, as price and as brand."),
    (["--map", "visitorid=brand"], f"FILE has no column visitorid for --map visitorid=brand; it has {HEADER}, x."),
    (["--map", "x=price"], "FILE has a column price already, so that --map x=price is refused."),
    (
        ["--map-event", "addtocart=basket"],
        "--map-event addtocart=basket: basket is no event type; there are view, cart, remove_from_cart, purchase.",
    ),
    (["--map-event", "addtocart"], "--map-event addtocart cannot be read: it takes SOURCE=TARGET, both not empty."),
    (
        ["--default", "cost=0"],
        "--default cost=0: cost is no event column; there are price, event_type, user_session, brand, category_code, "
        "category_id.",
    ),
    (
        ["--default", "user_id=1"],
        "--default user_id=1: user_id takes no default; there may be one for price, event_type, user_session, brand, "
        "category_code, category_id.",
    ),
    (["--default", "price=abc"], "--default price=abc: abc is no price; it takes a number such as 0 or 9.99."),
    (["--default", "price=-1"], "--default price=-1: -1 is no price; it takes a number such as 0 or 9.99."),
    (["--default", "price="], "--default price= cannot be read: it takes COLUMN=VALUE, both not empty."),
    (
        ["--default", "event_type=wish"],
        "--default event_type=wish: wish is no event type; there are view, cart, remove_from_cart, purchase.",
    ),
    (
        ["--default", f"category_id={2**63}"],
        f"--default category_id={2**63}: {2**63} is no category_id; it takes a whole number of 64 bits.",
    ),
]


@pytest.mark.parametrize(("options", "sentence"), ODD_OPTIONS)
def test_options_that_cannot_be(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], options: Sequence[str], sentence: str
) -> None:
    path = csv_file(tmp_path, f"{ROW},1", header=f"{HEADER},x")
    assert main([str(path), "--data-dir", str(data_dir), *options]) == 2
    expected = sentence.replace("FILE", str(path)).replace(HEADER, HEADER.replace(",", ", "))
    assert capsys.readouterr().err.strip() == expected
    assert not data_dir.exists()


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "--map visitorid=user_id" in text
    assert "repeatable" in text
