"""`MemoryErrors` turns the error of a query that needs too much memory into one that says what to do.

A module of its own, because it imports grpc, which only Sail and Spark Connect need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc

SIGNS = ("available for the total memory pool", "Resources exhausted", "spilling process has exceeded")
"""Parts of what DataFusion says where memory, or room for temporary files, ends."""


class MemoryErrors(grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]  # grpc has no types
    """Raises an error of our own where Sail reports one about memory.

    Parameters
    ----------
    error
        Makes it.
    """

    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error = error

    def intercept_unary_stream(
        self, continuation: Callable[[Any, Any], Iterator[Any]], client_call_details: Any, request: Any
    ) -> Iterator[Any]:
        """The responses to a request, as gRPC calls it."""
        try:
            yield from continuation(client_call_details, request)
        except grpc.RpcError as error:
            if any(sign in str(error.details()) for sign in SIGNS):
                raise self._error() from error
            raise
