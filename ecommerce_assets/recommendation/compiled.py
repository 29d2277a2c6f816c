"""How this room's inner loops are compiled by Numba, and where the result is kept.

The loops themselves stand in als_grouping.py and als_kernels.py. Importing this module imports Numba, which takes half
a second and 100 MB that only a fit needs: so those are imported late.
"""

from collections.abc import Callable
from typing import Any

import numba

OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
"""`fastmath` lets sums be taken in another order, which vector units need; the order is fixed at compile time."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile at the first call, and keep the result on disk where there is a place for it.

    Numba keeps it beside this file, else in the user's cache folder, and refuses where it can write to neither; then it
    is compiled anew in each process, which takes 4 s.
    """
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:
        return numba.njit(**OPTIONS)(function)
