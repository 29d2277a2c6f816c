"""The read-only HTTP service, which answers with published results from memory. `run` is the entry point.

`Current` loads new versions in the background.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pyarrow as pa
import uvicorn
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from threadpoolctl import threadpool_limits

from ecommerce_assets.delivery.published import MAX_LENGTH, Answer, Published, Record, newest_versions
from ecommerce_assets.lookup.tables import UnknownIdError, typed
from ecommerce_assets.recommendation.fold_in import Event, FoldIn
from ecommerce_assets.storage.lake import Lake

REFRESH_SECONDS = 5.0
"""Seconds between two checks for newer versions."""

RETRY_SECONDS = 60.0
"""Seconds until the next check after a version could not be loaded."""

MAX_EVENTS = 1_000
MAX_BODY_BYTES = 1 << 20
"""Maximum size of a request's body in bytes; a thousand events take about a tenth of it."""
_MAX_QUOTED = 80
"""Maximum number of characters of a value that an error message quotes."""

log = logging.getLogger(__name__)


def _id(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a whole number or a string")
    return value


Id = Annotated[int | str, BeforeValidator(_id)]
Length = Annotated[
    int | None,
    Query(ge=1, le=MAX_LENGTH, description="Maximum number of entries; unset: as many as a stored list has."),
]
PairKind = Annotated[Literal["bought", "viewed"], Query(description="Bought together, or viewed together.")]
UserId = Annotated[str, Path(description="Id of the user.")]
ProductId = Annotated[str, Path(description="Id of the product.")]


class _Product(BaseModel):
    rank: int = Field(description="1 is the best.")
    product_id: int | str
    name: str | None = None
    category: str | None = None
    brand: str | None = None


class Recommendation(_Product):
    """One entry of a list of recommendations."""

    score: float
    source: str = Field(description="The recommender that ranked it highest; `pinned` or `new`: a rule of the shop.")
    because_product_id: int | str | None = Field(
        None, description="The product of the user's history that contributed most: 'because you viewed …'."
    )


class SimilarProduct(_Product):
    """A product that the same users interacted with."""

    similarity: float | None = Field(None, description="0 to 1; null for the fallback.")


class Pair(_Product):
    """A product that was bought or viewed together with another one. The numbers are null for the fallback."""

    baskets: int | None = Field(None, description="Baskets with both products.")
    support: float | None = Field(None, description="Share of all baskets of the kind that have both products.")
    confidence: float | None = Field(
        None, description="Share of the baskets with the requested product that also have this one."
    )
    lift: float | None = Field(None, description="Confidence divided by the share of all baskets with this product.")


class _Answer(BaseModel):
    version: str | None = Field(description="Version of the table; null: the table is not published.")
    fallback: bool = Field(description="True: the id is unknown, and the answer is what is popular in the shop.")


class UserRecommendations(_Answer):
    """The recommendations of a user."""

    user_id: int | str
    recommendations: list[Recommendation]


class VisitorRecommendations(_Answer):
    """The recommendations for a visitor."""

    fallback: bool = Field(description="True: no view, cart or purchase is of a known product: popular products only.")
    recommendations: list[Recommendation]


class UserSegment(_Answer):
    """The segment of a user; null for unknown users."""

    user_id: int | str
    segment_id: int | None = None
    segment: str | None = None
    fallback: bool = Field(description="True: the user is unknown, and `segment` is null.")


class SimilarProducts(_Answer):
    """The products that are similar to a product."""

    product_id: int | str
    similar: list[SimilarProduct]


class Pairs(_Answer):
    """The products that were bought or viewed together with a product."""

    product_id: int | str
    kind: str
    pairs: list[Pair]


class VisitorEvent(BaseModel):
    """An event of a visitor."""

    model_config = ConfigDict(extra="forbid")

    product_id: Id
    event_type: Literal["view", "cart", "remove_from_cart", "purchase"] = "view"
    event_time: datetime | None = Field(None, description="UTC if it has no time zone; unset: now.")


class Visitor(BaseModel):
    """The latest events of a visitor, oldest first."""

    model_config = ConfigDict(extra="forbid")

    events: list[VisitorEvent] = Field(max_length=MAX_EVENTS)
    segment: str | None = Field(None, description="Segment of the visitor, if known; it completes short lists.")
    k: int | None = Field(None, ge=1, le=MAX_LENGTH, description="Length of the list; unset: that of a stored list.")


class TableHealth(BaseModel):
    """The version of a table that answers come from."""

    version: str
    made_at: datetime
    age_seconds: float


class Health(BaseModel):
    """What is served. `bytes` is the memory of the tables."""

    status: Literal["ok", "nothing is published"]
    tables: dict[str, TableHealth] = {}
    loaded_at: datetime | None = None
    users: int = 0
    products: int = 0
    bytes: int = 0


class Problem(BaseModel):
    """Why a request cannot be answered, in one sentence."""

    detail: str


class RequestError(Exception):
    """A request cannot be answered; the message says why.

    Parameters
    ----------
    status
        The HTTP status of the answer.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Current:
    """Holds the results that requests are answered from. `refresh` loads newer ones and replaces them."""

    def __init__(self, data_dir: str, load_fold_in: Callable[[Lake], FoldIn]) -> None:
        self._lake = Lake(data_dir, self._warn_once)
        self._load_fold_in = load_fold_in
        self._warned: set[str] = set()
        self._published: Published | None = None
        self._stopped = threading.Event()

    @property
    def published(self) -> Published:
        """The results, which a request must read only once. Raises RequestError if nothing is loaded."""
        if self._published is None:
            raise RequestError(503, "Nothing is published yet: materialise recommendations, then try again.")
        return self._published

    def refresh(self) -> bool:
        """Loads the newest versions, if there are newer ones; returns False if they cannot be loaded."""
        try:
            newest, old = newest_versions(self._lake), self._published
            if "recommendations" not in newest or (old is not None and old.watched == newest):
                return True
            new = Published.load(self._lake, self._load_fold_in)
        except Exception as error:  # a broken version must not stop the service
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            self._warn_once(
                f"The newest version cannot be loaded ({reason}): the service keeps the previous one, if any."
            )
            return False
        self._published = new
        del old
        pa.default_memory_pool().release_unused()
        for note in new.notes:
            self._warn_once(note)
        log.info(
            "Serving recommendations %s: %s users, %s products, %s MB.",
            new.version("recommendations"),
            f"{len(new.recommendations.ids):,}",
            f"{len(new.products):,}",
            f"{new.bytes / 1e6:,.0f}",
        )
        return True

    def watch(self) -> None:
        """Checks for newer versions until `stop` is called."""
        pause = REFRESH_SECONDS
        while not self._stopped.wait(pause):
            pause = REFRESH_SECONDS if self.refresh() else RETRY_SECONDS

    def stop(self) -> None:
        """Ends `watch`."""
        self._stopped.set()

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            log.warning(sentence)


def create_app(data_dir: str, load_fold_in: Callable[[Lake], FoldIn] = FoldIn.load) -> FastAPI:
    """Returns the service for one data dir.

    Parameters
    ----------
    data_dir
        Path or URL of the data dir.
    load_fold_in
        Loads the `FoldIn` that recommends products to visitors.
    """
    current = Current(data_dir, load_fold_in)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(current.refresh)
        threading.Thread(target=current.watch, name="watch", daemon=True).start()
        yield
        current.stop()

    app = FastAPIOffline(
        redoc_url=None,
        title="ecommerce_assets",
        description="Recommendations, similar products, pairs and segments of a shop. Read-only.",
        version="1",
        lifespan=lifespan,
        max_body_size=MAX_BODY_BYTES,
        responses={422: {"model": Problem}, 503: {"model": Problem}},
    )
    app.state.current = current

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": _message(error.errors()[0])}, 422)

    @app.exception_handler(RequestError)
    async def failed(_: Request, error: RequestError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.status)

    # All handlers run in the event loop, because they only read memory. Fold-in computes for a few milliseconds, but
    # would compete with the loop for the interpreter in a thread too.

    @app.get("/users/{user_id:path}/recommendations", response_model=UserRecommendations)
    async def user_recommendations(user_id: UserId, k: Length = None) -> Record:
        """The stored recommendations of a user; for an unknown user, what is popular in the shop."""
        published = current.published
        user = _typed(published, "user_id", user_id)
        answer = published.recommend(user, k)
        return {"user_id": user, **_header(published, "recommendations", answer), "recommendations": answer.entries}

    @app.get("/users/{user_id:path}/segment", response_model=UserSegment)
    async def user_segment(user_id: UserId) -> Record:
        """The segment of a user; null for an unknown user."""
        published = current.published
        user = _typed(published, "user_id", user_id)
        segment = published.segment(user)
        version = published.version("segmented_users")
        return {"user_id": user, "version": version, "fallback": segment is None, **(segment or {})}

    @app.get("/products/{product_id:path}/similar", response_model=SimilarProducts)
    async def similar_products(product_id: ProductId, k: Length = None) -> Record:
        """The products most similar to a product; for an unknown product, what is popular in the shop."""
        published = current.published
        product = _typed(published, "product_id", product_id)
        answer = published.similar_to(product, k)
        return {"product_id": product, **_header(published, "similar_products", answer), "similar": answer.entries}

    @app.get("/products/{product_id:path}/pairs", response_model=Pairs)
    async def product_pairs(product_id: ProductId, kind: PairKind = "bought", k: Length = None) -> Record:
        """What is bought or viewed together with a product; for an unknown product, what is popular in the shop."""
        published = current.published
        product = _typed(published, "product_id", product_id)
        answer = published.pairs_with(product, kind, k)
        header = _header(published, "product_pairs", answer)
        return {"product_id": product, "kind": kind, **header, "pairs": answer.entries}

    @app.post("/recommendations", response_model=VisitorRecommendations)
    async def visitor_recommendations(visitor: Visitor) -> Record:
        """Recommendations for a visitor, from the visitor's latest events."""
        published = current.published
        events = [
            Event(_typed(published, "product_id", str(event.product_id)), event.event_type, event.event_time)
            for event in visitor.events
        ]
        try:
            answer = published.recommend_for(events, visitor.segment, visitor.k)
        except ValueError as error:
            raise RequestError(422, str(error)) from None
        return {**_header(published, "recommendations", answer), "recommendations": answer.entries}

    @app.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health(response: Response) -> Record:
        """Which versions are served, and how old they are; 503 while nothing is published."""
        try:
            published = current.published
        except RequestError:
            response.status_code = 503
            return {"status": "nothing is published"}
        now = datetime.now(UTC)
        return {
            "status": "ok",
            "tables": {
                asset: {
                    "version": version.version,
                    "made_at": version.committed_at,
                    "age_seconds": (now - version.committed_at).total_seconds(),
                }
                for asset, version in published.versions.items()
            },
            "loaded_at": published.loaded_at,
            "users": len((published.segments or published.recommendations).ids),
            "products": len(published.products),
            "bytes": published.bytes,
        }

    return app


def run(data_dir: str, host: str, port: int) -> None:
    """Serves until the process is stopped.

    Parameters
    ----------
    data_dir
        Path or URL of the data dir.
    host
        Address to listen on. There is no authentication: a warning says so unless it is a loopback address.
    port
        TCP port to listen on.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if not _is_loopback(host):
        log.warning(
            "Everyone who can reach %s can read the results of all users, because there is no authentication: put a "
            "proxy with authentication in front, or use --host 127.0.0.1.",
            host,
        )
    with threadpool_limits(1, "blas"):  # the matrices of one visitor are small
        uvicorn.run(create_app(data_dir), host=host, port=port, log_config=None, access_log=False, server_header=False)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _header(published: Published, asset: str, answer: Answer) -> Record:
    return {"version": published.version(asset), "fallback": answer.is_fallback}


def _typed(published: Published, column: str, text: str) -> int | str:
    """Returns an id in the type of the shop's ids. Raises RequestError if that is not possible."""
    try:
        return typed(text, column, [published.versions["recommendations"]])
    except UnknownIdError as error:
        raise RequestError(422, str(error)) from None


def _message(problem: Mapping[str, Any]) -> str:
    """Returns one of pydantic's errors as a sentence: `k must be less than or equal to 100, got '1000'.`"""
    if problem["type"] == "json_invalid":
        return f"The body must be JSON: {problem['ctx']['error']} at character {problem['loc'][-1]}."
    place = ".".join(str(part) for part in problem["loc"][1:]) or "The body"
    if problem["type"] == "missing":
        return f"{place} is missing."
    if problem["type"] == "extra_forbidden":
        return f"{place} is not a field of this request: remove it."
    if problem["type"] == "model_attributes_type":
        return f"{place} must be a JSON object, sent with Content-Type: application/json."
    reason = str(problem["msg"]).removeprefix("Value error, ").replace("Input should", "must", 1)
    reason = reason.replace("List should", "must", 1)
    value = repr(problem["input"])
    return f"{place} {reason}" + (f", got {value}." if len(value) <= _MAX_QUOTED else ".")
