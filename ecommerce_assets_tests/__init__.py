"""Tests and benchmarks. They ignore the project's `.env`, which sets only missing variables: an empty one counts as
unset."""

import os
import sys

from ecommerce_assets.settings import Settings, variable

for _field in Settings.model_fields:
    os.environ.setdefault(variable(_field), "")

# Without cached bytecode, each of the many processes compiles its imports again, which takes seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
