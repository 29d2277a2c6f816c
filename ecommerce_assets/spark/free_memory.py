"""How much memory this process may still take: what the machine has, or the container allows.

engine.py says what may be planned with.
"""

from __future__ import annotations

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def free_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Bytes. Where the system does not tell what is free, such as on macOS, half of what it has."""
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
    """Pages of files, dropped when memory is asked for: after gigabytes of Parquet most of what counts as used."""
    try:
        told = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return int(told["inactive_file"])
    except (OSError, KeyError, ValueError):
        return 0
