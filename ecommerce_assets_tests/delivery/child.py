"""What processes of the tests do, and the server that forks them."""

import multiprocessing
import os
from itertools import cycle
from multiprocessing.connection import Connection

from ecommerce_assets.delivery.deliver import deliver, deliver_versions, target_of
from ecommerce_assets.storage.lake import Lake

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [__name__, "adbc_driver_sqlite.dbapi", "adbc_driver_postgresql.dbapi", "duckdb", "pyarrow.dataset"]
)


def deliver_once(data_dir: str, address: str, environment: dict[str, str], result: Connection) -> None:
    """Sends whether the delivery changed the target."""
    os.environ.update(environment)
    result.send(deliver(Lake(data_dir), address).changed)


def deliver_in_a_loop(data_dir: str, address: str, environment: dict[str, str], started: Connection) -> None:
    """Delivers one set of versions after the other; sends one message after the first delivery."""
    os.environ.update(environment)
    lake, target = Lake(data_dir), target_of(address)
    sets = list(
        zip(*(reversed(lake.published(asset)) for asset in ("recommendations", "segmented_users")), strict=True)
    )
    for number, versions in enumerate(cycle(sets)):
        deliver_versions(lake, target, versions)
        if not number:
            started.send(True)
