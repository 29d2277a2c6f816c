"""What to do where there is nothing to look into. Not how an asset is made, only the command that makes it."""

from __future__ import annotations

import shlex

from ecommerce_assets.env_file import RUN
from ecommerce_assets.settings import DEFAULT_DATA_DIR
from ecommerce_assets.storage.lake import Lake

_DAY = "event_date="


def nothing_stored(lake: Lake) -> str:
    """The sentence that names the command which makes everything, over all days that are landed."""
    where = lake.data.uri
    days = [name.removeprefix(_DAY) for name in (lake.data / "raw" / "events").folders() if name.startswith(_DAY)]
    if not days:
        return (
            f"Nothing is stored in {where}, and no events have been landed there: start with "
            f"{RUN}ecommerce-assets land FILE, or name another folder with --data-dir."
        )
    variable = "" if where == DEFAULT_DATA_DIR else f"ECOMMERCE_DATA_DIR={shlex.quote(where)} "
    return f"Nothing is stored in {where} yet; this makes it: {variable}{RUN}ecommerce-assets run"
