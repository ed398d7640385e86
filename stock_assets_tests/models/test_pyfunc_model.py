"""The model served by MLflow returns the bundle's forecasts and has no pickles."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import mlflow
import pytest
import yaml

from stock_assets.cli.platform import Platform
from stock_assets.config import Tracking
from stock_assets.core.digests import DamagedFileError
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.market import calendar
from stock_assets.registry import Registry
from stock_assets_tests.models.bundles import LAST, bundle, same_frame, sample_bars

DAYS = calendar.sessions(date(2013, 1, 2), LAST)
PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".npy", ".npz"}


@pytest.fixture(scope="module")
def logged(
    platform: Platform,
) -> tuple[Registry, ModelVersion]:
    """Register a bundle as a separate model."""
    registry = Registry(Tracking(experiment="pyfunc", model_name="Pyfunc"))
    registry.client()
    registry.ensure_experiment()
    mlflow.set_experiment("pyfunc")
    with mlflow.start_run():
        return registry, registry.register(bundle(), sample_bars())


@pytest.fixture(scope="module")
def served(logged: tuple[Registry, ModelVersion]) -> mlflow.pyfunc.PyFuncModel:
    """Load the model with MLflow."""
    registry, version = logged
    return mlflow.pyfunc.load_model(f"models:/{registry.model_name}/{version.version}")


def test_newest_session_is_forecast_by_default(
    served: mlflow.pyfunc.PyFuncModel,
) -> None:
    assert same_frame(served.predict(sample_bars()), bundle().forecast(sample_bars(), [LAST]))


def test_named_sessions_are_forecast_as_the_bundle_does(
    served: mlflow.pyfunc.PyFuncModel,
) -> None:
    named = {"sessions": [day.isoformat() for day in DAYS]}
    expected = bundle().forecast(sample_bars(), DAYS)
    assert same_frame(served.predict(sample_bars(), params=named), expected)
    backwards = {"sessions": named["sessions"][::-1]}
    assert same_frame(served.predict(sample_bars(), params=backwards), expected)


def test_several_horizons_are_served_as_the_bundle_forecasts_them(
    logged: tuple[Registry, ModelVersion],
) -> None:
    registry, _ = logged
    ahead = bundle(horizon=3, dataset_id="20121026_130000")
    with mlflow.start_run():
        version = registry.register(ahead, sample_bars()).version
    model = mlflow.pyfunc.load_model(f"models:/{registry.model_name}/{version}")
    expected = ahead.forecast(sample_bars(), [LAST])
    assert expected["horizon"].tolist() == [1, 2, 3] * 5
    assert same_frame(model.predict(sample_bars()), expected)
    assert model.metadata.signature.outputs.input_names() == list(expected.columns)


def test_bars_may_be_in_any_order(served: mlflow.pyfunc.PyFuncModel) -> None:
    shuffled = sample_bars().sample(frac=1, random_state=1)
    assert same_frame(served.predict(shuffled), bundle().forecast(sample_bars(), [LAST]))


def test_bars_without_a_column_are_an_error(served: mlflow.pyfunc.PyFuncModel) -> None:
    with pytest.raises(mlflow.MlflowException, match="close"):
        served.predict(sample_bars().drop(columns="close"))


def test_a_damaged_model_is_not_served(logged: tuple[Registry, ModelVersion]) -> None:
    registry, _ = logged
    with mlflow.start_run():
        version = registry.register(bundle(dataset_id="20121026_140000"), sample_bars()).version
    address = registry.client().get_model_version_download_uri(registry.model_name, str(version))
    path = Path(address.removeprefix("file://"), "artifacts", "bundle", "network.safetensors")
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"network\.safetensors is damaged"):
        mlflow.pyfunc.load_model(f"models:/{registry.model_name}/{version}")


def test_logged_model_has_no_pickle(logged: tuple[Registry, ModelVersion]) -> None:
    registry, version = logged
    folder = Path(
        mlflow.artifacts.download_artifacts(f"models:/{registry.model_name}/{version.version}")
    )
    names = [path for path in folder.rglob("*") if path.is_file()]
    assert {"bundle.json", "network.safetensors", "MLmodel"} <= {path.name for path in names}
    assert not [path for path in names if path.suffix in PICKLES]
    # Every pickle since protocol 2 starts with this byte and ends with a full stop.
    contents = [path.read_bytes() for path in names]
    assert not [content for content in contents if content[:1] == b"\x80" and content[-1:] == b"."]
    flavour = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["python_function"]
    assert Path(flavour["model_code_path"]).name == "pyfunc_model.py"
    assert "python_model" not in flavour


def test_requirements_are_pinned(logged: tuple[Registry, ModelVersion]) -> None:
    registry, version = logged
    address = f"models:/{registry.model_name}/{version.version}/requirements.txt"
    lines = Path(mlflow.artifacts.download_artifacts(address)).read_text().split()
    assert all("==" in line for line in lines)
    assert {"torch", "pandas", "TA-Lib", "safetensors"} <= {line.split("==")[0] for line in lines}


def test_signature_has_the_columns_of_bars_and_forecasts(
    served: mlflow.pyfunc.PyFuncModel,
) -> None:
    signature = served.metadata.signature
    assert set(signature.inputs.input_names()) == set(sample_bars().columns)
    expected = bundle().forecast(sample_bars(), [LAST]).columns
    assert signature.outputs.input_names() == list(expected)
    assert [spec.name for spec in signature.params.params] == ["sessions"]
