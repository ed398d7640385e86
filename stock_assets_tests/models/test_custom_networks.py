"""Custom networks: the documented one, their contract, their search space, and models of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from stock_assets.config import Features, SearchSpace, Training, Tuning
from stock_assets.core.errors import StockAssetsError
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle
from stock_assets.models.networks import NetworkSpec, build_network
from stock_assets.models.training import fit, forecast_scaled, weights_digest
from stock_assets.models.tuning import Hyperparameters, tune
from stock_assets_tests.custom_code import (
    FEATURE,
    NETWORK,
    OPTIONS,
    PARAMS,
    custom_project,
    documented,
    forget,
)
from stock_assets_tests.models.bundles import LAST, bundle, same_frame, sample_bars
from stock_assets_tests.models.examples import fit_settings, learnable_data, spec

DATA = learnable_data()
TRAINING = Training(loss="mse", device="cpu", seed=7)
DAYS = calendar.sessions(date(2013, 1, 2), LAST)
SPACE = SearchSpace(
    architecture=[NETWORK],
    hidden_size={"low": 4, "high": 8, "step": 4},
    layers={"low": 1, "high": 2},
    learning_rate={"low": 1e-3, "high": 1e-2, "log": True},
    custom={NETWORK: {"kernel": {"low": 2, "high": 4}}},
)


@pytest.fixture
def project(tmp_path: Path):
    with custom_project(tmp_path / "custom") as folder:
        yield folder


def custom_spec(**changes: object) -> NetworkSpec:
    return spec(NETWORK, options=OPTIONS, **changes)


def one_fold() -> list:
    return [DATA]


def test_documented_network_has_at_most_40_lines() -> None:
    assert sum(bool(line.strip()) for line in documented("our_networks").splitlines()) <= 40


def test_documented_network_learns_a_signal(project: Path) -> None:
    network = build_network(custom_spec(dropout=0.0), 7)
    untrained = forecast_scaled(network, DATA.windows, DATA.validation)
    assert not untrained.any()
    result = fit(network, DATA, fit_settings(epochs=25, patience=25, learning_rate=0.02))
    assert result.best.validation_loss < 0.5 * result.history[0].validation_loss


def test_seed_determines_the_weights(project: Path) -> None:
    first, again, other = (weights_digest(build_network(custom_spec(), seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_specification_survives_json(project: Path) -> None:
    original = custom_spec(horizon=2)
    assert NetworkSpec(**json.loads(json.dumps(original.to_dict()))) == original


def test_specification_of_a_built_in_network_has_the_keys_of_earlier_versions() -> None:
    assert list(spec("lstm").to_dict()) == [
        *("architecture", "tickers", "features", "window"),
        *("hidden_size", "layers", "dropout", "horizon"),
    ]


FAULTS = {
    "not a subclass": ("class TemporalConvolution(Network)", "class TemporalConvolution"),
    "its output is": (".transpose(1, 2)\n", "\n"),
    "invalid values of x reach": (
        "known = x.masked_fill(~valid.unsqueeze(-1), 0.0)",
        "known = x.masked_fill(~valid.any(), 0.0)",
    ),
    "a window changes the forecast": (
        "batch, window",
        "known = known - known.mean(dim=0)\n        batch, window",
    ),
}


@pytest.mark.parametrize("problem", FAULTS)
def test_network_that_breaks_the_contract_is_refused(project: Path, problem: str) -> None:
    before, after = FAULTS[problem]
    text = documented("our_networks")
    assert before in text
    (project / "our_networks.py").write_text(text.replace(before, after))
    with pytest.raises(StockAssetsError, match=problem):
        build_network(custom_spec(horizon=2))


def test_network_has_the_name_of_its_definition(tmp_path: Path) -> None:
    name = "our_copy:TemporalConvolution"
    params = {"tuning": {"search_space": {"architecture": [name]}}}
    with custom_project(tmp_path / "custom", params) as folder:
        (folder / "our_copy.py").write_text("from our_networks import TemporalConvolution\n")
        with pytest.raises(StockAssetsError, match=f"defined as {NETWORK}"):
            build_network(replace(custom_spec(), architecture=name))


def test_search_chooses_the_options_of_a_custom_network(project: Path) -> None:
    tuning = Tuning(trials=4, epochs=2, patience=2, search_space=SPACE)
    tuned = tune(one_fold, tuning, TRAINING, "study")
    kernels = tuned.trials[f"params_{NETWORK}.kernel"]
    assert kernels.between(2, 4).all()
    assert kernels.nunique() > 1
    best = tuned.trials.loc[tuned.trials["value"].idxmin()]
    assert tuned.best.options == {"kernel": best[f"params_{NETWORK}.kernel"]}
    network = build_network(tuned.best.network_spec(DATA), TRAINING.seed)
    assert network.get_parameter("convolutions.0.weight").shape[2] == tuned.best.options["kernel"]


def test_search_starts_with_the_options_of_an_earlier_dataset(project: Path) -> None:
    tuning = Tuning(trials=1, epochs=1, patience=1, search_space=SPACE)
    start = Hyperparameters(NETWORK, 8, 2, 0.3, 0.004, 48, {"kernel": 4})
    assert tune(one_fold, tuning, TRAINING, "study", None, start).best == start
    outside = replace(start, options={"kernel": 5})
    kernel = tune(one_fold, tuning, TRAINING, "study", None, outside).best.options["kernel"]
    assert kernel in (2, 3, 4)


@pytest.mark.parametrize("options", [{}, {"kernel": 3, "kind": "wide", "share": 0.25}])
def test_hyperparameters_survive_json(options: dict[str, int | float | str]) -> None:
    chosen = Hyperparameters(NETWORK, 8, 2, 0.3, 0.004, 48, options)
    assert Hyperparameters.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen


@pytest.fixture
def saved(project: Path, tmp_path: Path) -> tuple[Bundle, Path]:
    features = Features(groups=["returns"], custom=[FEATURE])
    model = bundle(NETWORK, features=features, options=OPTIONS)
    model.save(tmp_path / "bundle")
    return model, tmp_path / "bundle"


def test_model_of_custom_code_survives_save_and_load(saved: tuple[Bundle, Path]) -> None:
    model, folder = saved
    forget()
    again = Bundle.load(folder)
    assert again.digest() == model.digest()
    assert set(again.recipe.custom_code) == {NETWORK, FEATURE}
    assert same_frame(again.forecast(sample_bars(), DAYS), model.forecast(sample_bars(), DAYS))


def test_forecasts_of_custom_code_equal_those_without_later_bars(
    saved: tuple[Bundle, Path],
) -> None:
    model, _ = saved
    every = model.forecast(sample_bars(), DAYS)
    assert every["predicted_return"].abs().min() > 0
    for day in DAYS[::10]:
        known = sample_bars()[lambda bars: bars["session"] <= str(day)].reset_index(drop=True)  # noqa: B023
        expected = every[every["as_of_session"] == str(day)].reset_index(drop=True)
        assert same_frame(model.forecast(known, [day]), expected)


@pytest.mark.parametrize(
    ("section", "changed", "name"),
    [
        ("tuning", {"search_space": {"architecture": ["lstm"]}}, NETWORK),
        ("features", {"custom": []}, FEATURE),
    ],
)
def test_model_of_custom_code_that_is_not_named_is_refused_and_runs_nothing(
    saved: tuple[Bundle, Path], tmp_path: Path, section: str, changed: dict, name: str
) -> None:
    with custom_project(tmp_path / "other", {**PARAMS, section: changed}) as folder:
        for module in ("our_networks", "our_features"):
            if name.startswith(module):
                (folder / f"{module}.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
        with pytest.raises(StockAssetsError, match=f"does not name the \\w+ {name}"):
            Bundle.load(saved[1])
        assert not (folder / "ran").exists()


def test_model_needs_the_parameter_file_to_name_its_code(
    saved: tuple[Bundle, Path], tmp_path: Path
) -> None:
    with custom_project(tmp_path / "other") as folder:
        (folder / "params.yaml").unlink()
        with pytest.raises(StockAssetsError, match="does not name"):
            Bundle.load(saved[1])


@pytest.mark.parametrize("name", [NETWORK, FEATURE])
def test_model_of_changed_code_is_refused_before_it_runs(
    project: Path, saved: tuple[Bundle, Path], name: str
) -> None:
    file = project / f"{name.partition(':')[0]}.py"
    file.write_text(f"{file.read_text()}open({str(project / 'ran')!r}, 'w')\n")
    forget()
    with pytest.raises(StockAssetsError, match=f"the code of {name} has changed"):
        Bundle.load(saved[1])
    assert not (project / "ran").exists()


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Edit the description of a saved model."""
    path = folder / "bundle.json"
    plain = json.loads(path.read_text())
    edit(plain)
    path.write_text(json.dumps(plain))
    return folder


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (lambda plain: plain.pop("custom_code"), NETWORK),
        (lambda plain: plain["custom_code"].pop(NETWORK), NETWORK),
        (lambda plain: plain["custom_code"].pop(FEATURE), FEATURE),
        (lambda plain: plain["custom_code"].update({"our_networks:Other": ""}), "our_networks:Oth"),
    ],
)
def test_model_that_does_not_record_the_code_it_uses_is_refused(
    saved: tuple[Bundle, Path], edit: Callable[[dict[str, Any]], object], name: str
) -> None:
    forget()
    with pytest.raises(StockAssetsError, match=f"records other custom code than it uses.*{name}"):
        Bundle.load(edited(saved[1], edit))
    assert not {"our_networks", "our_features"} & set(sys.modules)


def test_model_that_its_class_cannot_build_is_an_error_with_the_place(
    saved: tuple[Bundle, Path],
) -> None:
    folder = edited(saved[1], lambda plain: plain["network"].pop("options"))
    with pytest.raises(StockAssetsError, match=r"our_networks\.py, line \d+: KeyError: 'kernel'"):
        Bundle.load(folder)


def test_model_names_only_the_custom_code_that_it_uses() -> None:
    assert bundle().recipe.custom_code == {}
    assert "custom_code" not in bundle().recipe.to_dict()


def test_documented_parameters_are_valid() -> None:
    from stock_assets.config import Params
    from stock_assets_tests.prepared import ROOT

    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(part.split("```")[0]) for part in page.split("```yaml\n")[1:]]
    assert len(shown) == 2
    for params in shown:
        read = Params.model_validate(params).model_dump(exclude_unset=True)
        (section,) = params
        assert read[section] == params[section]
