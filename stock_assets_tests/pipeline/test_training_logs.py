"""The MLflow run of a training: what a refit reads from it."""

from __future__ import annotations

import mlflow
import pytest

from stock_assets.cli.platform import Platform
from stock_assets.config import Tracking, Training
from stock_assets.core.errors import StockAssetsError
from stock_assets.pipeline.training_logs import LoggedTraining, logged_training
from stock_assets.registry import Registry
from stock_assets_tests.models.bundles import bundle, sample_bars

SETTINGS = Training(seed=7, weight_decay=3e-5, loss="mae")


@pytest.fixture(scope="module")
def registry(platform: Platform) -> Registry:
    """Create an experiment and a registered model of this module."""
    registry = Registry(Tracking(experiment="training logs", model_name="Training logs"))
    registry.client()
    registry.ensure_experiment()
    return registry


def test_logged_training_has_the_logged_rates_up_to_the_best_epoch(registry: Registry) -> None:
    mlflow.set_experiment("training logs")
    rates = (0.01, 0.01, 0.001 / 3, 0.0001)
    with mlflow.start_run():
        mlflow.log_param("batch_size", 96)
        mlflow.log_params(
            {f"training.{name}": value for name, value in SETTINGS.model_dump().items()}
        )
        for epoch, rate in enumerate(rates, start=1):
            mlflow.log_metric("learning_rate", rate, step=epoch)
        mlflow.log_metric("best_epoch", 3)
        model = bundle(dataset_id="20121026_150000")
        logged = registry.register(model, sample_bars())
    assert logged_training(registry.client(), logged) == LoggedTraining(SETTINGS, 96, (rates[:3],))


def test_logged_training_of_an_ensemble_has_the_rates_of_every_member(registry: Registry) -> None:
    mlflow.set_experiment("training logs")
    settings = SETTINGS.model_copy(update={"ensemble": 2})
    with mlflow.start_run():
        mlflow.log_param("batch_size", 96)
        mlflow.log_params(
            {f"training.{name}": value for name, value in settings.model_dump().items()}
        )
        for epoch, rate in enumerate((0.01, 0.005), start=1):
            mlflow.log_metric("learning_rate", rate, step=epoch)
            mlflow.log_metric("learning_rate_member_2", 2 * rate, step=epoch)
        mlflow.log_metrics({"best_epoch": 1, "best_epoch_member_2": 2})
        logged = registry.register(bundle(dataset_id="20121026_170000"), sample_bars())
    rates = logged_training(registry.client(), logged).learning_rates
    assert rates == ((0.01,), (0.02, 0.01))


def test_run_without_training_settings_is_an_error(registry: Registry) -> None:
    mlflow.set_experiment("training logs")
    with mlflow.start_run():
        mlflow.log_param("batch_size", 96)
        mlflow.log_metric("best_epoch", 0)
        logged = registry.register(bundle(dataset_id="20121026_160000"), sample_bars())
    with pytest.raises(StockAssetsError, match="lacks training settings"):
        logged_training(registry.client(), logged)
