"""The decorator `compiled` for the numeric loops in als_kernels.py, list_kernels.py and neighbour_kernels.py.

Importing this module imports Numba, which takes half a second and 100 MB: import the modules with loops late.
"""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

log = logging.getLogger(__name__)

OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
"""`fastmath` allows sums in another order, which vector instructions need; the order is fixed at compile time."""


def compiled(function: Callable[..., Any]) -> Any:
    """Returns the function compiled by Numba at its first call, with the machine code cached on disk if possible.

    Numba caches beside this file, else in the user's cache folder. If neither can be written to, each process compiles
    again, which takes seconds.
    """
    try:
        dispatcher = numba.njit(cache=True, **OPTIONS)(function)
        if not any(Path(dispatcher.stats.cache_path).glob(f"*{function.__name__}-*.nbi")):
            _log_compilation("once on this machine")
    except RuntimeError:
        dispatcher = numba.njit(**OPTIONS)(function)
        _log_compilation("in every process, because no cache folder is writable; set NUMBA_CACHE_DIR")
    return dispatcher


@functools.cache
def _log_compilation(frequency: str) -> None:
    log.info("Compiling the numeric loops, %s.", frequency)
