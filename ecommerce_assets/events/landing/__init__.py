"""Landing: files that people have become daily partitions of raw events. `python -m ecommerce_assets.events.landing`.

Landing loses no row, and changes no value but those that it was told to (names of events, defaults) and times that are
numbers since 1970: raw is what came, split by day. Parsing, judging and rejecting values is cleaning's work and does
not belong here. No Spark and no Dagster: landing has to start at once, on any machine.
"""

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import Layout
from ecommerce_assets.events.landing.run import land
from ecommerce_assets.events.landing.summary import LandingSummary, LineReport, SourceSummary

__all__ = ["LandingError", "LandingSummary", "Layout", "LineReport", "SourceSummary", "land"]
