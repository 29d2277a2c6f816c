"""Promoted parameters apply to runs without config; experiments are evaluated but not published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from pyspark.sql import SparkSession

from ecommerce_assets.cli import main
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.parameters import Parameters
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.promoted import PROMOTED, promote, read_promoted, revert
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY, read, run_graph

CHAIN = ["als_model", "als_evaluation", "blend_model", "recommendations", "training_metadata"]
EXPERIMENT = {"ops": {"als_model": {"config": {"rank": 6}}, "als_evaluation": {"config": {"k": 7}}}}


class TestPromotedParameters:
    @pytest.fixture
    def lake(self, tmp_path: Path) -> Lake:
        return Lake(str(tmp_path))

    def test_without_promoted_parameters_the_defaults_apply(self, lake: Lake) -> None:
        assert read_promoted(lake).values == {}
        assert Parameters.of({}).als_model == AlsParameters()

    def test_promoting_replaces_only_the_given_values(self, lake: Lake) -> None:
        promote(lake, {"als_model": {"rank": 8, "alpha": 2.0}}, "one")
        promote(lake, {"als_model": {"rank": 9}, "recommendations": {"k": 5}}, "two")
        promoted = read_promoted(lake)
        assert promoted.values == {"als_model": {"rank": 9, "alpha": 2.0}, "recommendations": {"k": 5}}
        assert [value.source for value in promoted.assets["als_model"].values()] == ["two", "one"]

    def test_revert_promotes_the_previous_parameters_and_first_the_defaults(self, lake: Lake) -> None:
        with pytest.raises(VersionNotFoundError):
            revert(lake)
        promote(lake, {"als_model": {"rank": 8}}, "one")
        assert revert(lake).values == read_promoted(lake).values == {}
        promote(lake, {"als_model": {"rank": 8}}, "one")
        promote(lake, {"als_model": {"rank": 9}}, "two")
        assert revert(lake).values == read_promoted(lake).values == {"als_model": {"rank": 8}}

    def test_promoting_the_same_parameters_again_writes_nothing(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        evaluated = SimpleNamespace(
            version="3", parameters={"als": {"rank": 8}}, stats=SimpleNamespace(results={"metrics": {"ndcg": {}}})
        )
        monkeypatch.setattr("ecommerce_assets.recommendation.commands.find_evaluation", lambda *_: evaluated)
        first = command(Path(lake.data.path), "promote", "3")
        promoted = lake.latest(PROMOTED)
        again = command(Path(lake.data.path), "promote", "3")
        assert (first.exit_code, again.exit_code, lake.latest(PROMOTED)) == (0, 0, promoted)
        assert "Nothing to promote" in again.stdout
        assert "Nothing to promote" not in first.stdout

    def test_half_life_zero_is_none(self) -> None:
        assert Parameters.of({"als_model": {"halfLife": 0}}) == Parameters.of({})
        assert Parameters.of({"als_model": {"halfLife": 30.0}}).als_model.halfLife == 30


def command(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data-dir", str(data_dir)])


def as_json(data_dir: Path, *arguments: str) -> object:
    result = command(data_dir, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.trial
class TestExperiment:
    """An experiment in a shop with published lists."""

    @pytest.fixture(scope="class")
    @classmethod
    def shop(
        cls, spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path_factory: pytest.TempPathFactory
    ) -> Path:
        folder = tmp_path_factory.mktemp("experiment") / "shop"
        shutil.copytree(ran[0], folder)
        assert run_graph(folder, FIRST_DAY, LAST_DAY, select=CHAIN, run_config=EXPERIMENT).success
        return folder

    def test_the_published_lists_keep_their_model(
        self, spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], shop: Path
    ) -> None:
        lake, original = Lake(str(shop)), Lake(str(ran[0]))
        assert lake.latest("als_model").parameters["rank"] == 6
        for asset in ("recommendations", "training_metadata"):
            version = lake.latest(asset)
            assert version.version != original.latest(asset).version
            assert version.input_version("als_model") == original.latest("als_model").version
            assert version.input_version("blend_model") == original.latest("blend_model").version
        rows, original_rows = (read(spark, folder, "recommendations").collect() for folder in (shop, ran[0]))
        assert sorted(rows) == sorted(original_rows)

    def test_the_evaluation_compares_it_with_the_promoted_parameters(self, shop: Path) -> None:
        evaluated = Lake(str(shop)).latest("als_evaluation")
        assert evaluated.parameters["experiment"] is True
        assert (evaluated.parameters["als"]["rank"], evaluated.parameters["k"]) == (6, 7)
        compared = evaluated.stats.results["compared"]
        assert compared["changes"] == {"als_model.rank": [4, 6], "recommendations.k": [10, 7]}
        value, lower, upper = compared["ndcg"]["difference"]
        assert lower <= value <= upper
        published = evaluated.stats.results["metrics"]["ndcg"]["published"][0]
        assert published - compared["ndcg"]["promoted"][0] == pytest.approx(value)
        [check] = [check for check in evaluated.checks if check.name == "not_worse_than_promoted"]
        assert check.values["als_model.rank"] == "6 instead of 4"
        [check] = [check for check in evaluated.checks if check.name == "not_worse_than_previous"]
        assert "an experiment" in check.checked

    def test_a_run_without_config_is_compared_with_the_last_one_that_was_not_an_experiment(
        self, ran: tuple[Path, dg.ExecuteInProcessResult], shop: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(shop, tmp_path / "shop")
        assert run_graph(tmp_path / "shop", FIRST_DAY, LAST_DAY, select=CHAIN).success
        evaluated = Lake(str(tmp_path / "shop")).latest("als_evaluation")
        assert evaluated.parameters["experiment"] is False
        [check] = [check for check in evaluated.checks if check.name == "not_worse_than_previous"]
        earlier = Lake(str(ran[0])).latest("als_evaluation").version
        assert f"published lists of version {earlier}" in check.values
        assert check.values["difference to it"].startswith("0.0000")  # the same data and parameters

    def test_promoted_it_is_published(self, shop: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / "shop"
        shutil.copytree(shop, folder)
        lake = Lake(str(folder))
        done = command(folder, "promote", "newest", "--force")
        assert done.exit_code == 0, done.output
        assert read_promoted(lake).values["als_model"] == {"rank": 6, "maxIter": 2}
        assert run_graph(folder, FIRST_DAY, LAST_DAY, select=["recommendations"]).success
        assert "No evaluation has the promoted parameters" not in capfd.readouterr().err
        lists = lake.latest("recommendations")
        assert lists.input_version("als_model") == lake.latest("als_model").version
        assert (lists.parameters["k"], lists.stats.rows) == (7, 7 * lake.latest("segmented_users").stats.rows)
        compared = as_json(folder, "compare", "0", "published")
        assert isinstance(compared, dict)
        assert compared["lists"]["changed"] == compared["lists"]["users"] > 0
        assert command(folder, "revert").exit_code == 0
        assert read_promoted(lake).values["als_model"] == {"rank": 4, "maxIter": 2}

    def test_commands_show_promoted_parameters_and_differences_of_evaluations(self, shop: Path) -> None:
        rows = as_json(shop, "parameters")
        assert isinstance(rows, list)
        by_name = {row["parameter"]: (row["value"], row["source"]) for row in rows}
        assert by_name["als_model.rank"] == (4, "tests")
        assert by_name["als_model.alpha"] == (1.0, "default")
        newest = Lake(str(shop)).latest("als_evaluation").version
        compared = as_json(shop, "compare", "published", newest)
        assert isinstance(compared, dict)
        assert compared["changes"] == {"als_model.rank": [4, 6], "recommendations.k": [10, 7]}
        assert compared["lists"] is None
        assert "als_model.rank" in command(shop, "compare", "published", newest).stdout

    def test_worse_parameters_are_promoted_only_with_force(self, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ecommerce_assets.recommendation.commands.outcome_of", lambda _: "worse")
        result = command(shop, "promote", "newest")
        assert result.exit_code == 1
        assert "--force" in result.stderr
        assert read_promoted(Lake(str(shop))).values["als_model"]["rank"] == 4

    @pytest.mark.parametrize("arguments", [["promote", "99"], ["promote", "tuning"], ["compare", "published", "99"]])
    def test_an_unknown_version_ends_the_command_with_2(self, shop: Path, arguments: list[str]) -> None:
        result = command(shop, *arguments)
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1
