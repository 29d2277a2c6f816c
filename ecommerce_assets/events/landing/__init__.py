"""Lands files that people have as daily partitions of raw events, without Spark. See README.md beside this file.

Entry points: `land`, and the command `ecommerce-assets land`.
"""

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import Layout
from ecommerce_assets.events.landing.run import land
from ecommerce_assets.events.landing.summary import LandingSummary, SourceSummary

__all__ = ["LandingError", "LandingSummary", "Layout", "SourceSummary", "land"]
