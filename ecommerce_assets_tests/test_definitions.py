"""The asset graph as one snapshot: a change of lineage, grouping or checks shows in the diff."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._core.workspace.load_target import get_origins_from_toml

from ecommerce_assets.definitions import CATALOG, ON_DEMAND, build_defs
from ecommerce_assets.settings import load_settings

SNAPSHOT = Path(__file__).parent / "asset_graph.json"
PROJECT = Path(__file__).parents[1]
RECORD = "python -m ecommerce_assets_tests.test_definitions"


def graph_of(defs: dg.Definitions) -> dict[str, dict[str, object]]:
    graph = defs.resolve_asset_graph()
    nodes = {}
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        checks = sorted(graph.get_check_keys_for_assets({key}), key=lambda c: c.name)
        nodes[key.to_user_string()] = {
            "group": node.group_name,
            "daily": node.partitions_def is not None,
            "external": node.is_external,
            "kinds": sorted(node.kinds),
            "depends on": sorted(parent.to_user_string() for parent in node.parent_keys),
            "checks": [f"{c.name} (blocking)" if graph.get_check_spec(c).blocking else c.name for c in checks],
        }
    return nodes


def recording() -> str:
    return json.dumps(graph_of(build_defs(load_settings())), indent=1) + "\n"


def test_asset_graph_is_as_recorded() -> None:
    assert recording() == SNAPSHOT.read_text(), f"the asset graph changed; if it should have, record it: {RECORD}"


def test_every_asset_is_described() -> None:
    graph = build_defs(load_settings()).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
        assert node.metadata["dagster/uri"], key
        if not node.is_external:
            assert node.code_version, key
        if key.to_user_string() not in ("raw_events", "product_catalog"):
            [code] = node.metadata["dagster/code_references"].code_references
            assert code.file_path.endswith("assets.py"), key
        table = CATALOG[key.to_user_string()].table if key.to_user_string() in CATALOG else None
        if table is not None:
            columns = node.metadata["dagster/column_schema"].columns
            assert [c.name for c in columns] == table.names
            assert all(c.description for c in columns)


def test_tags_tell_when_an_asset_is_made_and_whether_it_is_about_single_users() -> None:
    graph = build_defs(load_settings()).resolve_asset_graph()

    def tagged(selection: str) -> set[str]:
        return {
            key.to_user_string()
            for key in dg.AssetSelection.from_string(selection, include_sources=True).resolve(graph)
        }

    assert tagged('tag:"refresh"="external"') == {"raw_events", "product_catalog"}
    assert tagged('tag:"refresh"="daily"') == {"cleaned_events", "rejected_events"}
    assert tagged('tag:"refresh"="on_demand"') == set(ON_DEMAND)
    assert tagged('tag:"personal_data"="true"') == {
        *("raw_events", "cleaned_events", "rejected_events", "user_features", "user_index", "interaction_data"),
        *("segmented_users", "segment_history", "customer_groups", "customer_value", "als_model", "recommendations"),
    }


def test_one_run_at_a_time(tmp_path: Path) -> None:
    shutil.copy(PROJECT / ".dagster" / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 1


def test_recommendations_are_overdue_after_the_hours_of_the_setting() -> None:
    for settings, hours in (({}, 25), ({"freshness_hours": 49}, 49)):
        graph = build_defs(load_settings(**settings)).resolve_asset_graph()
        policies = {key.to_user_string(): graph.get(key).freshness_policy for key in graph.get_all_asset_keys()}
        expected = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours))
        assert {name: policy for name, policy in policies.items() if policy} == {"recommendations": expected}


def test_every_parameter_shows_in_the_launchpad() -> None:
    job = build_defs(load_settings()).resolve_implicit_global_asset_job_def()
    fields = job.run_config_schema.config_type.fields  # type: ignore[attr-defined]
    ops = fields["ops"].config_type.fields
    configs = {name: op.config_type.fields.get("config") for name, op in ops.items()}
    shown = {
        name: sorted(config.config_type.fields)
        for name, config in configs.items()
        if config is not None and getattr(config.config_type, "fields", None)
    }
    assert shown == {
        "als_evaluation": ["exclude", "k", "ranker"],
        "als_model": ["alpha", "engine", "halfLife", "maxIter", "nonnegative", "params", "rank", "regParam", "seed"],
        "item_neighbours": ["engine"],
        "product_pairs": ["k", "min_baskets", "window_days"],
        "segmentation_model": ["engine", "k", "maxIter", "seed"],
        "similar_products": ["k"],
    }
    spark = fields["resources"].config_type.fields["spark"]
    assert {"app_name", "master", "driver_memory", "executor_memory", "adaptive", "spark_config"} <= set(
        spark.config_type.fields["config"].config_type.fields
    )


@pytest.mark.parametrize(
    ("name", "op", "config"),
    [
        ("als_tuning", "tune_als", ["cutoffs", "seed", "timeout_seconds", "trials"]),
        ("backtest", "run_backtest", ["cutoffs"]),
        ("segmentation_by_k", "try_each_k", []),
    ],
)
def test_what_is_made_on_demand_has_a_job_and_is_no_part_of_the_graphs_run(
    name: str, op: str, config: list[str]
) -> None:
    defs = build_defs(load_settings())
    # What the UI loads: Dagster refuses names that clash only here.
    job = next(job for job in defs.get_repository_def().get_all_jobs() if job.name == name)
    assert job.description
    assert sorted(job.graph.node_names()) == sorted([op, f"{name}_checks"])
    steps = job.run_config_schema.config_type.fields["ops"].config_type.fields  # type: ignore[attr-defined]
    shown = steps[op].config_type.fields["config"].config_type
    assert sorted(getattr(shown, "fields", None) or []) == config
    # It reads days: without their partitions only the newest version of cleaned_events would be read.
    graph = defs.resolve_asset_graph()
    for read in graph.get(dg.AssetKey(name)).parent_keys:
        own = job.asset_layer.asset_graph.get(read)
        assert (own.partitions_def is None) == (graph.get(read).partitions_def is None)
    everything = defs.resolve_implicit_global_asset_job_def()
    assert op not in everything.graph.node_names()
    assert dg.AssetKey(name) not in everything.asset_layer.executable_asset_keys
    node = graph.get(dg.AssetKey(name))
    assert node.is_external
    assert node.automation_condition is None


def test_the_code_location_loads_in_the_ui() -> None:
    """What the web server and the daemon ask for: a check that only a job knows fails here and nowhere before."""
    snapshot = RepositorySnap.from_def(build_defs(load_settings()).get_repository_def())
    assert {job.name for job in snapshot.job_refs or snapshot.job_datas or []} >= set(ON_DEMAND)
    checked = {check.asset_key.to_user_string() for check in snapshot.asset_check_nodes or []}
    assert checked == {name for name, spec in {**CATALOG, **ON_DEMAND}.items() if spec.checks} | {"raw_events"}


def test_workspace_and_pyproject_name_the_location_that_the_commands_name() -> None:
    """`dagster dev` reads pyproject.toml where that has a block for `dg`, and workspace.yaml only where it has none."""
    module = "ecommerce_assets.definitions"
    [of_workspace] = location_origins_from_yaml_paths([str(PROJECT / "workspace.yaml")])
    [of_pyproject] = get_origins_from_toml(str(PROJECT / "pyproject.toml"))
    for origin in (of_workspace, of_pyproject):
        assert origin.loadable_target_origin.module_name == module
        assert origin.location_name == "ecommerce_assets"
    assert f"-m {module}" in (PROJECT / "README.md").read_text()


def test_days_of_the_sample_are_its_own_and_others_go_on(tmp_path: Path) -> None:
    raw = build_defs(load_settings()).resolve_asset_graph().get(dg.AssetKey("raw_events")).partitions_def
    assert raw is not None
    keys = raw.get_partition_keys()
    assert (keys[0], keys[-1], len(keys)) == ("2019-10-01", "2019-12-29", 90)
    own = load_settings(data_dir=str(tmp_path), first_day="2026-01-01")
    assert own.end_day is None
    days = build_defs(own).resolve_asset_graph().get(dg.AssetKey("raw_events")).partitions_def
    assert days is not None
    assert days.get_partition_keys()[0] == "2026-01-01"


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    """Each of the web server, the daemon and every run loads them; what only a run needs, a run imports."""
    heavy = {"numba", "pyspark.ml", "pandas", "scipy", "matplotlib", "optuna"}
    code = f"import sys, ecommerce_assets.definitions; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    SNAPSHOT.write_text(recording())
