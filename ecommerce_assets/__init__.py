"""Customer segments and product recommendations from a shop's event log, as Dagster assets on Spark."""

import sys
import warnings

from ecommerce_assets.console import set_up

# Backfill policies are in beta in Dagster, which warns for every asset at every start.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy` of .* is currently in beta")

set_up(sys.argv)
