"""The generated sample: reproducible, with the shares and irregular values of a real log."""

from __future__ import annotations

import hashlib
import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_assets.events.sample import SAMPLE_SCHEMA, generate, land_next_day
from ecommerce_assets.events.sample_shop import BOT_USER
from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS
from ecommerce_assets.settings import SAMPLE_MARKER
from ecommerce_assets_tests.command import call

SHIPPED = Path(__file__).parents[2] / "data" / "raw" / "events"
DAYS = [date(2019, 10, 1) + timedelta(days=i) for i in range(90)]


def read(folder: Path) -> pd.DataFrame:
    """All rows, with the day of the partition."""
    frames = []
    for file in sorted(folder.glob("event_date=*/part-0.parquet")):
        table = pq.ParquetFile(file).read()
        ids = {name: pd.Int64Dtype() for name in ("product_id", "category_id", "user_id")}
        frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get).astype(ids)
        price = table["price"].combine_chunks()
        frame["price_missing"] = price.is_null().to_numpy(zero_copy_only=False)
        frame["day"] = pd.Timestamp(file.parent.name.removeprefix("event_date="), tz="UTC")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def contents(folder: Path) -> dict[str, str]:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    return read(SHIPPED)


@pytest.fixture(scope="module")
def clean(raw: pd.DataFrame) -> pd.DataFrame:
    """The accepted rows, by rules that are independent of the code under test."""
    frame = raw.assign(event_type=raw.event_type.str.strip(), brand=raw.brand.str.strip().replace("", None))
    code = frame.category_code.str.strip().replace("", None)
    good = frame.event_type.isin(EVENT_TYPES) & frame.user_id.notna() & frame.product_id.notna()
    good &= np.isfinite(frame.price) & (frame.price >= 0) & (frame.event_time.dt.normalize() == frame.day)
    return frame.assign(category_code=code)[good].drop_duplicates([*SAMPLE_SCHEMA.names, "day"])


def test_shipped_sample_is_reproducible(tmp_path: Path) -> None:
    generate(tmp_path)
    assert contents(tmp_path / "raw" / "events") == contents(SHIPPED)


def test_shipped_sample_has_90_days_of_small_files() -> None:
    marker = json.loads((SHIPPED / SAMPLE_MARKER).read_text())
    assert marker["seed"] == 42
    files = sorted(SHIPPED.glob("event_date=*/*"))
    assert [f"event_date={day}/part-0.parquet" for day in DAYS] == [str(f.relative_to(SHIPPED)) for f in files]
    assert sum(f.stat().st_size for f in files) < 3_000_000
    assert all(pq.ParquetFile(f).schema_arrow.equals(SAMPLE_SCHEMA) for f in files)
    assert [*SAMPLE_SCHEMA.names, "event_id"] == EVENTS.names
    assert pq.ParquetFile(files[0]).metadata.row_group(0).column(0).compression == "ZSTD"


def test_shares_are_those_of_a_real_shop(raw: pd.DataFrame, clean: pd.DataFrame) -> None:
    assert 55_000 < len(raw) < 65_000
    assert 3_500 < clean.user_id.nunique() < 5_000
    assert 800 < clean.product_id.nunique() < 1_500
    shares = clean.event_type.value_counts(normalize=True)
    assert 0.88 < shares["view"] < 0.93
    assert shares[["cart", "purchase", "remove_from_cart"]].min() > 0.005
    assert 0.29 < clean.category_code.isna().mean() < 0.35
    assert 0.14 < clean.brand.isna().mean() < 0.20
    per_user = clean.user_id.value_counts()
    assert per_user.median() <= 4
    assert (per_user >= 20).sum() > 400
    assert clean[clean.price > 0].groupby("product_id").price.nunique().max() == 1
    assert clean.dropna(subset=["category_id"]).groupby("product_id").category_id.nunique().max() == 1


def test_rejected_rows_and_repeats_are_few(raw: pd.DataFrame, clean: pd.DataFrame) -> None:
    repeats = raw.duplicated([*SAMPLE_SCHEMA.names, "day"]).sum()
    assert 0.001 < repeats / len(raw) < 0.005
    assert 0.001 < (len(raw) - repeats - len(clean)) / len(raw) < 0.005


def test_irregular_values_of_every_kind_occur(raw: pd.DataFrame, clean: pd.DataFrame) -> None:
    # Rejected:
    assert {"wishlist", "compare"} == set(raw.event_type.str.strip()) - set(EVENT_TYPES)
    assert (raw.price < 0).any()
    assert np.isinf(raw.price).any()
    assert raw.price_missing.any()
    assert (raw.price.isna() & ~raw.price_missing).any(), "NaN, which is not null"
    for name in ("event_time", "user_id", "product_id"):
        assert 0 < raw[name].isna().sum() < 30
    outside = raw.event_time.notna() & (raw.event_time.dt.normalize() != raw.day)
    assert 5 < outside.sum() < 50
    # Accepted:
    assert (clean.price == 0).any()
    assert (raw.brand == "").any()
    assert clean.user_session.isna().any()
    assert clean.category_id.isna().any()
    for name in ("brand", "category_code", "event_type"):
        assert (raw[name].str.strip() != raw[name])[raw[name].notna()].any(), f"{name} with blanks around it"
    assert (clean.user_id.dropna().astype("int64") > 10**18).any(), "19-digit user ids"
    assert clean.groupby("user_session").user_id.nunique().max() == 2


def test_some_files_are_not_sorted_by_time(raw: pd.DataFrame) -> None:
    ordered = raw.dropna(subset=["event_time"]).groupby("day").event_time.apply(lambda t: t.is_monotonic_increasing)
    assert 10 < (~ordered).sum() < 80


def test_purchases_without_a_cart_and_before_a_view(clean: pd.DataFrame) -> None:
    first = clean.groupby(["user_id", "product_id", "event_type"]).event_time.min().unstack()
    purchased = first[first.purchase.notna()]
    assert 0.6 < purchased.cart.isna().mean() < 0.75
    assert 0.02 < (purchased.purchase < purchased.view).mean() < 0.15


def test_one_user_is_a_bot(clean: pd.DataFrame) -> None:
    bot = clean[clean.user_id == BOT_USER]
    assert len(bot) > 2_000
    assert set(bot.event_type) == {"view"}
    assert bot.day.nunique() <= 15
    assert clean[clean.user_id != BOT_USER].user_id.value_counts().max() < 1_000


@pytest.mark.parametrize(("events", "days"), [(1, 1), (300, 30), (2_000, 5)])
def test_small_sample_has_about_the_requested_events(tmp_path: Path, events: int, days: int) -> None:
    rows = generate(tmp_path, events=events, days=days, first_day=date(2024, 2, 27))
    folder = tmp_path / "raw" / "events"
    assert len(list(folder.glob("event_date=*"))) == days
    assert len(read(folder)) == rows
    assert events >= 1_000 or rows < 500
    assert events < 1_000 or abs(rows / events - 1) < 0.2


def test_seed_determines_the_bytes_and_a_sample_replaces_an_earlier_one(tmp_path: Path) -> None:
    samples = []
    for seed, days in ((7, 4), (8, 3), (8, 3)):
        generate(tmp_path, events=500, days=days, seed=seed)
        samples.append(contents(tmp_path))
        assert len(list((tmp_path / "raw" / "events").glob("event_date=*"))) == days
    assert samples[0] != samples[1] == samples[2]


@pytest.mark.parametrize("file", ["event_date=2024-01-01/part-0.parquet", "event_date=2024-01-01/mine.parquet"])
def test_other_events_are_never_replaced(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "raw" / "events"
    if file.endswith("mine.parquet"):
        generate(tmp_path, events=100, days=2)  # even beside a sample
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_bytes(b"other data")
    previous = contents(tmp_path)
    with pytest.raises(FileExistsError, match="not a generated sample"):
        generate(tmp_path, events=100, days=2)
    assert contents(tmp_path) == previous


def test_command_ends_with_an_error_if_the_folder_has_other_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sample", str(tmp_path), "--events", "200", "--days", "2"]
    assert call(*command) == 0
    assert "events" in capsys.readouterr().out
    (tmp_path / "raw" / "events" / SAMPLE_MARKER).unlink()
    assert call(*command) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_days_can_be_added_to_a_copy(tmp_path: Path) -> None:
    generate(tmp_path / "sample", events=2000, days=8)
    shop = tmp_path / "shop"
    assert [str(land_next_day(shop, tmp_path / "sample")) for _ in range(2)] == ["2019-10-09", "2019-10-10"]
    assert not (shop / "raw/events" / SAMPLE_MARKER).exists()
    week_before = pq.read_table(shop / "raw/events/event_date=2019-10-02", partitioning=None).num_rows
    [added] = (shop / "raw/events/event_date=2019-10-09").glob("*.parquet")
    assert 0.5 * week_before < pq.read_metadata(added).num_rows < week_before
    assert (shop / "raw/events/event_date=2019-10-09/_SUCCESS").exists()
