"""What runs by itself once cleaned events have changed: every asset behind them, once per batch of days.

events/sensor.py requests the cleaning of raw days. recovery.py requests again what failed runs left undone.
"""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from ecommerce_assets.events.sensor import TARGETS as DAILY
from ecommerce_assets.settings import Settings

RECOMMENDATIONS, PRODUCT_CATALOG = dg.AssetKey("recommendations"), dg.AssetKey("product_catalog")

_AC = dg.AutomationCondition

_OPTIONAL = dg.AssetSelection.assets(*DAILY, PRODUCT_CATALOG)
"""Optional inputs: most shops have no events for most days of the definition, and no catalogue."""

_HERE_OR_COMING = ~_AC.missing() | _AC.will_be_requested()
# Dagster's own all_deps_blocking_checks_passed asks for requests of the checks, which come with the asset's; a batch
# would go through the graph layer by layer, with a run and a Spark for each.
_SOUND_OR_COMING = _AC.will_be_requested() | _AC.all_checks_match(_AC.check_passed(), blocking_only=True)

REFRESH = (
    _AC.eager()
    .replace("any_deps_missing", _AC.any_deps_missing().ignore(_OPTIONAL))
    # Eager also takes the first look at an asset for handled, and would forget what came before the daemon did.
    .replace("handled", _AC.newly_requested() | _AC.newly_updated())
    & _AC.any_deps_match(_HERE_OR_COMING)
    # A blocked day is not published, and does not hold back what the other days bring.
    & _AC.all_deps_match(_SOUND_OR_COMING).ignore(dg.AssetSelection.assets(*DAILY))
).with_label("refresh_when_inputs_changed")
"""An asset is made again when one of its inputs is new, none is being made, and no blocking check of one failed; days
that a check blocked are not waited for."""


def with_automation(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Returns the spec with the condition, except for daily assets and the catalogue, which have sensors."""
    if spec.partitions_def or spec.key == PRODUCT_CATALOG:
        return spec
    return spec.replace_attributes(automation_condition=REFRESH)


def with_freshness(spec: dg.AssetSpec, settings: Settings) -> dg.AssetSpec:
    """The spec; of `recommendations` with the age at which the UI shows them as overdue."""
    if spec.key != RECOMMENDATIONS:
        return spec
    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=settings.freshness_hours))
    return spec.replace_attributes(freshness_policy=policy)


def automation(settings: Settings) -> dg.AutomationConditionSensorDefinition:
    """What evaluates the conditions; without it running, Dagster asks for nothing by itself."""
    return dg.AutomationConditionSensorDefinition(
        "refresh",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED,
        description="Features, segments, models, recommendations and metadata follow their inputs, once per batch.",
    )
