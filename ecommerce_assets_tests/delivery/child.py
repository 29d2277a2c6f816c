"""What a process to be killed does: it delivers one set of versions after the other, for ever."""

import os
from itertools import cycle
from multiprocessing.connection import Connection

from ecommerce_assets.delivery.deliver import deliver_versions, target_of
from ecommerce_assets.storage.lake import Lake


def deliver_for_ever(data_dir: str, address: str, environment: dict[str, str], began: Connection) -> None:
    """Sends one message, after the first delivery."""
    os.environ.update(environment)
    lake, target = Lake(data_dir), target_of(address)
    sets = list(
        zip(*(reversed(lake.published(asset)) for asset in ("recommendations", "segmented_users")), strict=True)
    )
    for number, versions in enumerate(cycle(sets)):
        deliver_versions(lake, target, versions)
        if not number:
            began.send(True)
