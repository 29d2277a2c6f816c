"""Bad input of every kind from file to cleaned day: each row is accepted, rejected or a repeat."""

from collections import Counter
from pathlib import Path

from pyspark.sql import SparkSession

from ecommerce_assets.events.cleaning import classify, count_by_day, rejected_events
from ecommerce_assets.events.raw import find_raw_events
from ecommerce_assets_tests.events.landing_files import HEADER, NEXT_DAY, ROW, csv_file, land_one

VALUES = [
    ("event_time", "", "missing event_time"),
    ("event_time", "soon", "unreadable event_time"),
    ("event_time", "2019-10-01 10:00:00 BST", "unreadable event_time"),
    ("event_time", "1970-01-01 00:00:00", "unreadable event_time"),
    ("event_type", "wishlist", "unknown event_type"),
    ("user_id", "NA", "missing user_id"),
    ("product_id", " ", "missing product_id"),
    ("price", "abc", "unreadable price"),
    ("price", "inf", "infinite price"),
    ("price", "-0.01", "negative price"),
    ("category_id", "x", None),
    ("brand", r"\N", None),
    ("event_time", "2019/10/01 10:00", None),
    ("user_id", "17.0", None),
]
LINES = [f"{ROW},x", ROW.replace("acme", '"acme'), "cut off"]


def test_rows_that_landing_counts_are_accepted_rejected_or_repeats(
    spark: SparkSession, tmp_path: Path, data_dir: Path
) -> None:
    names = HEADER.split(",")
    rows = [
        ",".join({**dict(zip(names, ROW.split(","), strict=True)), "user_session": str(n), column: value}.values())
        for n, (column, value, _) in enumerate(VALUES)
    ]
    summary = land_one(csv_file(tmp_path, *rows, *LINES, ROW, ROW, NEXT_DAY), data_dir)
    raw = find_raw_events(str(data_dir), ["2019-10-01", "2019-10-02"])
    classified = classify(raw.parsed(str(tmp_path / "parsed"), "bigint").frame(spark)).cache()
    by_day = count_by_day(classified)
    total = sum((Counter(counts) for counts in by_day.values()), Counter())
    assert total["accepted"] + total["rejected"] + total["repeats"] == summary.sources[0].rows_landed
    assert total["accepted"] == sum(reason is None for *_, reason in VALUES) + 2
    assert total["repeats"] == 1
    expected = Counter(reason for *_, reason in VALUES if reason) + Counter({"unreadable line": len(LINES)})
    assert {f"rejected: {reason}": count for reason, count in expected.items()}.items() <= total.items()
    rejected = rejected_events(classified).collect()
    assert len(rejected) == total["rejected"] == sum(expected.values())
    kept = {row["user_session"]: row for row in rejected if row["user_session"]}
    for number, (column, value, reason) in enumerate(VALUES):
        if reason:
            assert kept[str(number)][column] == (value or None)
