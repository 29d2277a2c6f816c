"""A process to be killed: delivers one set of versions after the other, for ever. Arguments: data dir, address."""

import sys
from itertools import cycle

from ecommerce_assets.delivery.deliver import deliver_versions, target_of
from ecommerce_assets.storage.lake import Lake

if __name__ == "__main__":
    lake, target = Lake(sys.argv[1]), target_of(sys.argv[2])
    sets = list(
        zip(*(reversed(lake.published(asset)) for asset in ("recommendations", "segmented_users")), strict=True)
    )
    for versions in cycle(sets):
        deliver_versions(lake, target, versions)
        print(versions[0].version, flush=True)
