"""The number of a published asset among the assets of its run: a whole graph, a selection, a retry."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from ecommerce_assets.storage.inputs import add_published


class Positions(dg.IOManager):
    """Keeps what `add_published` returns for each asset."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.failing = ""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        asset = context.asset_key.to_user_string()
        if asset == self.failing:
            raise ValueError("on purpose")
        self.seen[asset] = add_published(context, asset)

    def load_input(self, context: dg.InputContext) -> None: ...


POSITIONS = Positions()


@dg.multi_asset(outs={"a": dg.AssetOut(is_required=False), "b": dg.AssetOut(is_required=False)}, can_subset=True)
def both(context: dg.AssetExecutionContext) -> Iterator[dg.Output[None]]:
    for name in sorted(context.op_execution_context.selected_output_names):
        yield dg.Output(None, name)


@dg.asset(deps=["b", "outside"])
def c() -> int:
    return 1


@dg.asset(deps=["c"])
def d() -> int:
    return 1


@dg.asset_check(asset="c")
def checked() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def job() -> dg.JobDefinition:
    return dg.Definitions(
        [both, c, d, dg.AssetSpec("outside")],
        asset_checks=[checked],
        jobs=[dg.define_asset_job("whole", "*")],
        resources={"io_manager": POSITIONS},
        executor=dg.in_process_executor,
    ).resolve_job_def("whole")


@pytest.fixture(autouse=True)
def positions() -> Positions:
    POSITIONS.__init__()  # type: ignore[misc]
    return POSITIONS


def test_positions_count_the_assets_of_the_run(positions: Positions) -> None:
    assert job().execute_in_process().success
    assert positions.seen == {"a": "1 of 4", "b": "2 of 4", "c": "3 of 4", "d": "4 of 4"}
    positions.seen = {}
    assert job().execute_in_process(asset_selection=[dg.AssetKey("b"), dg.AssetKey("c")]).success
    assert positions.seen == {"b": "1 of 2", "c": "2 of 2"}


def test_positions_in_a_retry_count_its_own_assets(positions: Positions) -> None:
    with dg.instance_for_test() as instance:
        positions.failing = "c"
        failed = job().execute_in_process(instance=instance, raise_on_error=False)
        positions.failing, positions.seen = "", {}
        options = dg.ReexecutionOptions.from_failure(failed.run_id, instance)
        with dg.execute_job(dg.reconstructable(job), instance, reexecution_options=options) as retried:
            assert retried.success
    assert positions.seen == {"c": "1 of 2", "d": "2 of 2"}
