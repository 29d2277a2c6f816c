"""How this room's inner loops are compiled by Numba, and where the result is kept.

The loops are in als_kernels.py, list_kernels.py and neighbour_kernels.py. Importing this module imports Numba, which
takes half a second and 100 MB: so those are imported late.
"""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

log = logging.getLogger(__name__)

OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
"""`fastmath` lets sums be taken in another order, which vector units need; the order is fixed at compile time."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile at the first call, and keep the result on disk where there is a place for it.

    Numba keeps it beside this file, else in the user's cache folder, and refuses where it can write to neither; then it
    is compiled anew in each process, which takes seconds.
    """
    try:
        dispatcher = numba.njit(cache=True, **OPTIONS)(function)
        if not any(Path(dispatcher.stats.cache_path).glob(f"*{function.__name__}-*.nbi")):
            _log_compilation("once on this machine")
    except RuntimeError:
        dispatcher = numba.njit(**OPTIONS)(function)
        _log_compilation("in every process, because no folder for the result can be written to")
    return dispatcher


@functools.cache
def _log_compilation(how_often: str) -> None:
    log.info("Compiling the numeric loops, %s.", how_often)
