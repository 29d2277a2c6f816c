"""Tests and benchmarks. They ignore the project's `.env`, which sets only missing variables: an empty one counts as
unset."""

import os

from ecommerce_assets.settings import Settings, variable

for _field in Settings.model_fields:
    os.environ.setdefault(variable(_field), "")
