"""The asset graph, as a snapshot whose diff shows changes, and the definitions of the code location."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

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


def snapshot(defs: dg.Definitions) -> str:
    return json.dumps(graph_of(defs), indent=1) + "\n"


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs(load_settings())


def test_the_asset_graph_is_as_recorded(defs: dg.Definitions) -> None:
    assert snapshot(defs) == SNAPSHOT.read_text(), f"the asset graph changed; if that is right, run {RECORD}"


def test_every_asset_is_described(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
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


def test_tags_select_assets_by_refresh_and_by_personal_data(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()

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


def test_the_queue_starts_one_run_at_a_time(tmp_path: Path) -> None:
    shutil.copy(PROJECT / ".dagster" / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 1


def test_only_recommendations_have_a_freshness_policy() -> None:
    graph = build_defs(load_settings(freshness_hours=49)).resolve_asset_graph()
    policies = {key.to_user_string(): graph.get(key).freshness_policy for key in graph.get_all_asset_keys()}
    expected = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=49))
    assert {name: policy for name, policy in policies.items() if policy} == {"recommendations": expected}


def test_the_launchpad_has_every_parameter(defs: dg.Definitions) -> None:
    job = defs.resolve_implicit_global_asset_job_def()
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
def test_assets_on_demand_have_a_job_and_are_not_in_the_run_of_the_graph(
    name: str, op: str, config: list[str], defs: dg.Definitions
) -> None:
    job = next(job for job in defs.get_repository_def().get_all_jobs() if job.name == name)
    assert job.description
    assert sorted(job.graph.node_names()) == sorted([op, f"{name}_checks"])
    steps = job.run_config_schema.config_type.fields["ops"].config_type.fields  # type: ignore[attr-defined]
    shown = steps[op].config_type.fields["config"].config_type
    assert sorted(getattr(shown, "fields", None) or []) == config
    # Without the partitions of cleaned_events, the job would read only its newest version.
    graph = defs.resolve_asset_graph()
    for parent in graph.get(dg.AssetKey(name)).parent_keys:
        partitions = job.asset_layer.asset_graph.get(parent).partitions_def
        assert (partitions is None) == (graph.get(parent).partitions_def is None)
    # The UI cannot load a job with other checks.
    checks = {key for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(name)}
    assert set(job.asset_layer.asset_graph.asset_check_keys) == checks
    everything = defs.resolve_implicit_global_asset_job_def()
    assert op not in everything.graph.node_names()
    assert dg.AssetKey(name) not in everything.asset_layer.executable_asset_keys
    node = graph.get(dg.AssetKey(name))
    assert node.is_external
    assert node.automation_condition is None


def test_the_code_location_is_loadable_and_has_the_checks_of_every_asset(defs: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(defs)
    checked = {key.asset_key.to_user_string() for key in defs.resolve_asset_graph().asset_check_keys}
    assert checked == {name for name, stored in {**CATALOG, **ON_DEMAND}.items() if stored.checks} | {"raw_events"}


def test_workspace_pyproject_and_readme_have_the_same_code_location() -> None:
    """`dagster dev` reads the block `[tool.dg]` of pyproject.toml; workspace.yaml only if there is no such block."""
    location = {"module_name": "ecommerce_assets.definitions", "location_name": "ecommerce_assets"}
    workspace = yaml.safe_load((PROJECT / "workspace.yaml").read_text())
    assert workspace["load_from"] == [{"python_module": location}]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert project["code_location_target_module"] == location["module_name"]
    assert project["code_location_name"] == location["location_name"]
    assert f"-m {location['module_name']}" in (PROJECT / "README.md").read_text()


def test_partitions_are_the_days_of_the_sample_or_go_on(tmp_path: Path, defs: dg.Definitions) -> None:
    def days(defs: dg.Definitions) -> list[str]:
        partitions = defs.resolve_asset_graph().get(dg.AssetKey("raw_events")).partitions_def
        assert partitions is not None
        return list(partitions.get_partition_keys())

    sample = days(defs)
    assert (sample[0], sample[-1], len(sample)) == ("2019-10-01", "2019-12-29", 90)
    other = load_settings(data_dir=str(tmp_path), first_day="2026-01-01")
    assert other.end_day is None
    assert days(build_defs(other))[0] == "2026-01-01"


def test_loading_the_definitions_imports_no_slow_packages() -> None:
    """The web server, the daemon and every run load them."""
    heavy = {"numba", "pyspark.ml", "pandas", "scipy", "matplotlib", "optuna"}
    code = f"import sys, ecommerce_assets.definitions; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(build_defs(load_settings())))
