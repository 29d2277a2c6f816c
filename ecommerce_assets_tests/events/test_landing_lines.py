"""Unreadable lines and values: counted, listed, and distributed over the days; the other lines are landed."""

import csv
import io
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecommerce_assets.events.landing import LandingError, SourceSummary, staging
from ecommerce_assets_tests.events.landing_files import (
    HEADER,
    NEXT_DAY,
    ROW,
    SHORT_HEADER,
    csv_file,
    land_one,
    landed,
)

BAD_LINES = [
    (f"{ROW},extra".encode(), "10 values instead of 9"),
    (b"2019-10-01 00:00:01 UTC,view,1,2,a.b,acme,1.5,3", "8 values instead of 9"),
    (b"soon", "1 value instead of 9"),
    (ROW.replace("acme", '"acme').encode(), "unclosed quote"),
    (ROW.replace("acme", '"ac"me').encode(), "invalid CSV: ',' expected after '\"'"),
    (ROW.replace("acme", "caf\xe9").encode("latin-1"), "not UTF-8"),
    (b"\xff\xfe" + ROW.encode("utf-16-le"), "not UTF-8"),
    (b"x" * 1_000_001, "longer than 1,000,000 bytes"),
    (ROW.replace("acme", "a" * 1_100_000).encode(), "longer than 1,000,000 bytes"),
]


def land_bytes(folder: Path, *lines: bytes, end: bytes = b"\n") -> SourceSummary:
    path = csv_file(folder, ROW)
    path.write_bytes(path.read_bytes() + b"\n".join(lines) + end)
    (source,) = land_one(path, folder / "shop").sources
    return source


def listed(source: SourceSummary) -> list[list[str]]:
    """The list of unreadable lines and values: line, reason and text of each."""
    with open(source.unreadable_file, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["line", "reason", "text"]
    return rows


@pytest.mark.parametrize(
    "line", [line for line, _ in BAD_LINES], ids=[f"{n} {r}" for n, (_, r) in enumerate(BAD_LINES)]
)
def test_bad_line_costs_only_itself(tmp_path: Path, line: bytes) -> None:
    """DuckDB detects some of them, with its own reasons, such as "missing columns"."""
    source = land_bytes(tmp_path, ROW.encode(), line, NEXT_DAY.encode())
    assert (source.rows_read, source.rows_landed, source.rows_without_day) == (4, 4, 1)
    assert sorted(landed(tmp_path / "shop", "reject_reason"), key=str) == [("unreadable line",), *[(None,)] * 3]
    ((number, _, text),) = listed(source)
    assert number == "4"
    assert text == line[:10_000].decode(errors="backslashreplace")


def test_bad_lines_of_all_kinds_in_one_file_are_listed_with_their_reasons(tmp_path: Path) -> None:
    source = land_bytes(tmp_path, *[part for line, _ in BAD_LINES for part in (line, NEXT_DAY.encode())])
    assert (source.rows_read, source.rows_without_day) == (1 + 2 * len(BAD_LINES), len(BAD_LINES))
    assert [(row[0], row[1]) for row in listed(source)] == [
        (str(3 + 2 * number), reason) for number, (_, reason) in enumerate(BAD_LINES)
    ]
    assert [(unreadable.reason, unreadable.count) for unreadable in source.unreadable] == [
        ("unreadable line", len(BAD_LINES))
    ]


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_cut_off_last_line_is_unreadable(tmp_path: Path, end: bytes) -> None:
    source = land_bytes(tmp_path, b"2019-10-01 00:00:01 UTC,view,1,2,a.b,ac", end=end)
    assert (source.rows_read, source.rows_without_day) == (2, 1)
    assert [row[0] for row in listed(source)] == ["3"]


def test_line_of_40_megabytes_costs_only_itself(tmp_path: Path) -> None:
    source = land_bytes(tmp_path, b"y" * 40_000_000, NEXT_DAY.encode(), b'"' + b"z," * 1_500_000, ROW.encode())
    assert (source.rows_read, source.rows_landed, source.rows_without_day) == (5, 5, 2)
    assert [row[0] for row in listed(source)] == ["3", "5"]
    assert Path(source.unreadable_file).stat().st_size < 30_000


def test_unclosed_quote_does_not_swallow_rows_up_to_the_next_quote(tmp_path: Path) -> None:
    stray = ROW.replace("acme", '"acme').encode()
    source = land_bytes(tmp_path, stray, *[ROW.encode()] * 50, stray, NEXT_DAY.replace("s1", '"s1"').encode())
    assert (source.rows_read, source.rows_without_day) == (54, 2)
    assert [row[0] for row in listed(source)] == ["3", "54"]


def test_line_of_zero_bytes_is_unreadable(tmp_path: Path) -> None:
    source = land_bytes(tmp_path, ROW.replace("acme", "a\0b").encode(), b"\0" * 512, NEXT_DAY.encode())
    assert (source.rows_read, source.rows_without_day) == (4, 1)


def test_empty_lines_are_not_rows(tmp_path: Path) -> None:
    source = land_bytes(tmp_path, b"", b"\r", NEXT_DAY.encode(), b"", b"")
    assert (source.rows_read, source.rows_without_day) == (2, 0)


def test_byte_order_mark_is_not_part_of_the_first_value(tmp_path: Path, data_dir: Path) -> None:
    path = csv_file(tmp_path, '2019-10-01,"x', header="\ufeff2019-10-01,x")
    options = {"header": "event_time,brand", "defaults": ["event_type=view", "price=1"]}
    land_one(path, data_dir, compute=["user_id=1", "product_id=1"], **options)
    assert landed(data_dir, "brand, reject_reason") == [("x", None), (None, "unreadable line")]


def test_line_ends_inside_quotes_are_kept(tmp_path: Path) -> None:
    brands = ["a\nb", "a\r\nb", 'a "b"\n\nc', "d,e", "Great, really\ngood"]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [value if value != "acme" else brand for value in ROW.split(",")] for brand in brands
    )
    assert not land_bytes(tmp_path, text.getvalue().encode()).unreadable
    assert {brand for (brand,) in landed(tmp_path / "shop", "brand")} == {"acme", *brands}


def test_lines_in_another_encoding_are_counted_and_the_option_is_suggested(tmp_path: Path) -> None:
    path = csv_file(tmp_path, ROW)
    path.write_bytes(path.read_bytes() + (ROW.replace("acme", "caf\xe9") + "\n").encode("latin-1") * 30)
    summary = land_one(path, tmp_path / "shop")
    assert summary.sources[0].rows_without_day == 30
    assert "--encoding latin-1" in str(summary)


def test_files_without_bad_lines_are_not_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(staging, "read_one_by_one")
    for end in ("\n", "\r\n"):
        land_one(csv_file(tmp_path, ROW, "", ROW.replace("acme", '"a, b"'), end=end), tmp_path / f"shop{len(end)}")


class TestRowsWithoutDay:
    def test_they_are_distributed_in_proportion_to_the_rows_of_the_days(self, tmp_path: Path, data_dir: Path) -> None:
        bad = [ROW.replace("2019-10-01", "soon")] * 6 + [f"{ROW},x"] * 4
        last = NEXT_DAY.replace("2019-10-02", "2019-10-03")
        path = csv_file(tmp_path, *[ROW] * 30, *bad, *[NEXT_DAY] * 70, last, name="\u65e5" * 80 + ".csv")
        (source,) = land_one(path, data_dir).sources
        assert source.rows_by_day == ((date(2019, 10, 1), 33), (date(2019, 10, 2), 77), (date(2019, 10, 3), 1))
        assert Path(source.unreadable_file).exists()
        assert source.rows_without_day == 10
        reasons = Counter(reason for (reason,) in landed(data_dir, "reject_reason"))
        assert reasons == {None: 101, "unreadable event_time": 6, "unreadable line": 4}

    def test_they_may_outnumber_the_other_rows(self, tmp_path: Path, data_dir: Path) -> None:
        times = ["", "soon", "infinity", "2019-13-01", "1970-01-01", "NULL"]
        bad = [ROW.replace("2019-10-01 00:00:00 UTC", time) for time in times]
        (source,) = land_one(csv_file(tmp_path, *bad, NEXT_DAY, *bad, ROW), data_dir).sources
        assert source.rows_by_day == ((date(2019, 10, 1), 7), (date(2019, 10, 2), 7))
        kept = [time for (time,) in landed(data_dir, "original.event_time")]
        assert all(kept.count(time or None) == (2 if time else 4) for time in times)

    def test_values_of_rejected_events_are_kept(self, tmp_path: Path, data_dir: Path) -> None:
        land_one(csv_file(tmp_path, ROW, ROW.replace("2019-10-01", "soon").replace("1.50", "abc")), data_dir)
        (row,) = [row for row in landed(data_dir, "original, brand") if row[0]]
        assert row[0] == {**dict(zip(HEADER.split(","), ROW.split(","), strict=True)), "event_id": None} | {
            "event_time": "soon 00:00:00 UTC",
            "price": "abc",
        }
        assert row[1] == "acme"


def test_unreadable_values_are_counted_and_listed(tmp_path: Path, data_dir: Path) -> None:
    changes = [("1.50", "abc"), ("1.50", '"1,50"'), (",2,", ",x,"), ("view", "wish"), ("acme", "N/A"), ("1.50", "\xa0")]
    path = csv_file(tmp_path, ROW, *[ROW.replace(*change) for change in changes], ROW.replace("1.50", "abc"))
    (source,) = land_one(path, data_dir).sources
    assert {unreadable.reason: (unreadable.count, unreadable.examples) for unreadable in source.unreadable} == {
        "unreadable price": (4, (("abc", 2), ("1,50", 1), ("\xa0", 1))),
        "unreadable category_id": (1, (("x", 1),)),
        "unknown event_type": (1, (("wish", 1),)),
    }
    assert source.null_markers == (("brand", "N/A", 1),)
    assert Counter((reason, text) for _, reason, text in listed(source)) == {
        ("unreadable price", "abc"): 2,
        ("unreadable price", "1,50"): 1,
        ("unreadable price", "\xa0"): 1,
        ("unreadable category_id", "x"): 1,
        ("unknown event_type", "wish"): 1,
    }


IRREGULAR_TEXT = st.text(alphabet=st.sampled_from(list("ab1, \"'\n\r\t\\é日#;\0")), max_size=6)
IRREGULAR_TIME = st.sampled_from(
    ["2019-10-01 00:00:00 UTC", "2019-10-02T23:00:00-05:00", "", "x", "NULL", "2019-02-30"]
)


@settings(max_examples=6, deadline=None)
@given(rows=st.lists(st.tuples(IRREGULAR_TIME, IRREGULAR_TEXT, IRREGULAR_TEXT, IRREGULAR_TEXT), max_size=60))
def test_rows_written_by_the_csv_module_are_landed(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [("2019-10-01 00:00:00", "a", "b", "c"), *rows]
    text = io.StringIO()
    header = ["event_time", "brand", "event_type", "user_session", "product_id", "price", "user_id"]
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
        [header, *((*row, "1", "1", "2") for row in rows)]
    )
    (folder / "events.csv").write_text(text.getvalue(), newline="")
    summary = land_one(folder / "events.csv", folder / "shop")
    (source,) = summary.sources
    # A quoted value with both a line end and a comma might hold lines of events: then the lines are read one by one.
    if source.rows_read == len(rows):
        brands = Counter(brand for (brand,) in landed(folder / "shop", "original.brand"))
        assert brands == Counter(brand or None for _, brand, *_ in rows)
    else:
        assert any("\n" in value for row in rows for value in row)
        assert source.unreadable[0].reason == "unreadable line"


@settings(max_examples=8, deadline=None)
@given(lines=st.lists(st.binary(max_size=12) | st.text(alphabet='a,"1\r', max_size=8).map(str.encode), max_size=60))
def test_every_line_is_a_row_or_unreadable(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("lines")
    filled = [line for line in (line.replace(b"\n", b"") for line in lines) if line.strip(b"\r")]
    body = [SHORT_HEADER.encode(), b"2019-10-01,view,1,1,1", *filled]
    (folder / "events.csv").write_bytes(b"\n".join(body) + b"\n")
    (source,) = land_one(folder / "events.csv", folder / "shop").sources
    ends = sum((text or "").count("\n") for (text,) in landed(folder / "shop", "original::VARCHAR"))
    assert source.rows_read + ends == len(body) - 1


def test_lines_are_read_the_same_beside_one_that_is_not_utf8(tmp_path: Path, data_dir: Path) -> None:
    lines = ['2019-10-01,view,1,1,1, "acme"', "2019-10-01,view,1,1,1,acme,"]
    path = csv_file(tmp_path, *lines, header=f"{SHORT_HEADER},brand")
    path.write_bytes(path.read_bytes() + b"\xff\n")
    land_one(path, data_dir)
    assert landed(data_dir, "brand, reject_reason") == [("acme", None)] * 2 + [(None, "unreadable line")]


def test_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = csv_file(tmp_path, ROW)

    def grow(*_: object) -> dict[object, object]:
        path.write_text(path.read_text() + NEXT_DAY + "\n")
        return {}

    monkeypatch.setattr(staging.Staging, "_distribute", grow)
    with pytest.raises(LandingError, match="changed while it was read: land it when it is complete"):
        land_one(path, data_dir)
    assert not landed(data_dir)
