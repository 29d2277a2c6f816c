"""The sensor `refresh` and its condition: changed events refresh every asset downstream, once per batch of days.

events/sensor.py requests the cleaning of raw days; recovery.py requests again what failed runs left outdated.
"""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from ecommerce_assets.events.sensor import TARGETS as DAILY
from ecommerce_assets.settings import Settings

RECOMMENDATIONS, PRODUCT_CATALOG = dg.AssetKey("recommendations"), dg.AssetKey("product_catalog")

_AC = dg.AutomationCondition

_OPTIONAL = dg.AssetSelection.assets(*DAILY, PRODUCT_CATALOG)
"""Inputs that can be missing: most shops lack events for most days of the partitions, and a product catalogue."""

_AVAILABLE = ~_AC.missing() | _AC.will_be_requested()
# Dagster's own all_deps_blocking_checks_passed also waits for the checks of assets that are requested in the same tick,
# so a batch would take one run, and one Spark, per layer of the graph.
_NOT_BLOCKED = _AC.will_be_requested() | _AC.all_checks_match(_AC.check_passed(), blocking_only=True)

REFRESH = (
    _AC.eager()
    .replace("any_deps_missing", _AC.any_deps_missing().ignore(_OPTIONAL))
    # Eager also counts the first evaluation as handled, and so ignores changes before the daemon's first start.
    .replace("handled", _AC.newly_requested() | _AC.newly_updated())
    & _AC.any_deps_match(_AVAILABLE)
    # A blocked day is not published, and must not delay the refresh with the other days.
    & _AC.all_deps_match(_NOT_BLOCKED).ignore(dg.AssetSelection.assets(*DAILY))
).with_label("refresh_when_inputs_changed")
"""True if an input of the asset is new, no input is in progress, and no blocking check of an input failed. Blocked
days are ignored."""


def with_automation(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Returns the spec with the condition; daily assets and the catalogue unchanged, because they have sensors."""
    if spec.partitions_def or spec.key == PRODUCT_CATALOG:
        return spec
    return spec.replace_attributes(automation_condition=REFRESH)


def with_freshness(spec: dg.AssetSpec, settings: Settings) -> dg.AssetSpec:
    """Returns the spec; for `recommendations` with the age at which the UI shows them as overdue."""
    if spec.key != RECOMMENDATIONS:
        return spec
    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=settings.freshness_hours))
    return spec.replace_attributes(freshness_policy=policy)


def automation(settings: Settings) -> dg.AutomationConditionSensorDefinition:
    """Returns the sensor `refresh`, which evaluates the conditions."""
    return dg.AutomationConditionSensorDefinition(
        "refresh",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED,
        description="Refreshes features, segments, models, recommendations and metadata after their inputs, once per "
        "batch of days.",
    )
