"""What is free, on a machine and in a container."""

from pathlib import Path

import pytest

from ecommerce_assets.spark.free_memory import free_memory

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"


def test_this_machine_has_some() -> None:
    assert free_memory() > 0


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [
        (None, None, 8_192_000_000),
        ("max", "5", 8_192_000_000),
        ("2000000000", "500000000", 1_500_000_000),
        ("90000000000", "0", 8_192_000_000),
        ("100", "500", 0),
    ],
)
def test_the_smaller_of_machine_and_container(tmp_path: Path, limit: str | None, used: str | None, free: int) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    if limit and used:
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text(used)
    assert free_memory(tmp_path / "meminfo", tmp_path) == free


def test_pages_of_files_are_free(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "memory.max").write_text("2000000000")
    (tmp_path / "memory.current").write_text("1900000000")
    (tmp_path / "memory.stat").write_text("anon 400000000\ninactive_file 1200000000\nactive_file 300000000\n")
    assert free_memory(tmp_path / "meminfo", tmp_path) == 1_300_000_000


def test_half_of_all_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert free_memory(tmp_path / "nothing", tmp_path) > 0
