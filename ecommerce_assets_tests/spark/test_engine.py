"""Free memory, on a machine and in a container."""

from pathlib import Path

import pytest

from ecommerce_assets.spark.engine import free_memory

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\nHugePages_Total: 0\n"


@pytest.mark.parametrize(
    ("limit", "used", "cached", "free"),
    [
        (None, None, None, 8_192_000_000),
        ("max", "5", "0", 8_192_000_000),
        ("2000000000", "500000000", "0", 1_500_000_000),
        ("2000000000", "1900000000", "1200000000", 1_300_000_000),
        ("90000000000", "0", "0", 8_192_000_000),
        ("100", "500", "0", 0),
    ],
)
def test_the_smaller_of_machine_and_container(
    tmp_path: Path, limit: str | None, used: str | None, cached: str | None, free: int
) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    if limit and used:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        (tmp_path / "memory.stat").write_text(f"anon 400000000\ninactive_file {cached}\nactive_file 300000000\n")
    assert free_memory(tmp_path / "meminfo", tmp_path) == free


def test_half_of_all_memory_on_systems_that_do_not_report_it(tmp_path: Path) -> None:
    assert free_memory(tmp_path / "nothing", tmp_path) > 0
