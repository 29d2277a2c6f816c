"""Tests, and the benchmarks. None of them sees the `.env` of this project: it overrides no variable that is there, and
an empty one counts as unset."""

import os

from ecommerce_assets.settings import Settings, variable

for _field in Settings.model_fields:
    os.environ.setdefault(variable(_field), "")
