"""Functions that need Dagster's private `step_context`; no other module uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg


def running_step(context: dg.InputContext | dg.AssetExecutionContext) -> tuple[str, str]:
    """Returns the run id and the key of the step. An InputContext has neither, an AssetExecutionContext no key."""
    step = context.step_context if isinstance(context, dg.InputContext) else context.get_step_execution_context()
    return step.run_id, step.step.key


def planned_assets(context: dg.OutputContext) -> set[dg.AssetKey]:
    """Returns the assets that the steps of this run make; empty outside a run.

    A run's asset selection also has the assets of steps that a retry skips.
    """
    try:
        plan = context.step_context.execution_plan
    except dg.DagsterInvariantViolationError:
        return set()
    outputs = [output for key in plan.step_keys_to_execute for output in plan.get_step_by_key(key).step_outputs]
    return {output.properties.asset_key for output in outputs if output.properties.asset_key}


def add_day_metadata(context: dg.OutputContext, metadata: Mapping[str, Any], day: str) -> None:
    """Adds metadata to one day's event; `add_output_metadata` adds the same to the events of all days."""
    context.step_context.add_asset_metadata(metadata, asset_key=context.asset_key, partition_key=day)


def check_event(context: dg.OutputContext, evaluation: dg.AssetCheckEvaluation) -> dg.DagsterEvent:
    """Returns the event of a check, for an IO manager to yield; `log_event` takes no check evaluations."""
    return dg.DagsterEvent.asset_check_evaluation(context.step_context, evaluation)
