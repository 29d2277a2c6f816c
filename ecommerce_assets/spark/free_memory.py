"""Measures the memory that this process can still use, on the machine or in the container."""

from __future__ import annotations

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def free_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Returns the free memory in bytes; half of all memory on systems that do not report it, such as macOS."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if limit == "max":
            return free
        return max(0, min(free, int(limit) - int(used) + _given_back(cgroup)))
    except (OSError, ValueError):
        return free


def _given_back(cgroup: Path) -> int:
    """Returns the bytes of cached file pages, which count as used, but which the system frees when memory is needed."""
    try:
        counters = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return int(counters["inactive_file"])
    except (OSError, KeyError, ValueError):
        return 0
