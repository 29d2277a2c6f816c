"""Evaluations in MLflow, in a store in a folder."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from ecommerce_assets.mlflow_log import CHAMPION, NAME, log_version
from ecommerce_assets.storage.lake import Lake

Ran = tuple[Path, dg.ExecuteInProcessResult]


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    return (tmp_path / "mlflow").as_uri()


def log(data_dir: Path, *assets: str) -> list[str]:
    """Logs the newest version of each asset; returns the warnings."""
    warnings: list[str] = []
    for asset in assets:
        log_version(Lake(str(data_dir)).latest(asset), str(data_dir), warnings.append)
    return warnings


def test_an_evaluation_is_logged_and_the_published_one_is_the_champion(ran: Ran, address: str) -> None:
    from mlflow import MlflowClient

    assert log(ran[0], "als_evaluation", "recommendations", "training_metadata") == []
    client, evaluated = MlflowClient(address), Lake(str(ran[0])).latest("als_evaluation")
    champion = client.get_model_version_by_alias(NAME, CHAMPION)
    assert champion.tags["als_evaluation"] == evaluated.version
    run = client.get_run(champion.run_id)
    assert run.info.status == "FINISHED"
    assert (run.data.params["als_model.rank"], run.data.params["recommendations.k"]) == ("4", "10")
    assert run.data.metrics["ndcg"] == evaluated.stats.results["metrics"]["ndcg"]["published"][0]
    assert [file.path for file in client.list_artifacts(champion.run_id)] == ["model_card.md"]


def test_without_a_logged_evaluation_there_is_no_champion(ran: Ran, address: str) -> None:
    from mlflow import MlflowClient

    assert log(ran[0], "training_metadata") == []
    assert MlflowClient(address).search_registered_models() == []


def test_a_failure_is_a_warning(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    [warning] = log(ran[0], "als_evaluation")
    assert "was not logged in MLflow" in warning
    assert "\n" not in warning


def test_without_an_address_nothing_is_logged(ran: Ran, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert log(ran[0], "als_evaluation", "training_metadata") == []
    assert list(tmp_path.iterdir()) == []
