"""Parameters: the shipped file loads, and an invalid one is an error of one line."""

from __future__ import annotations

import re
from datetime import date, time
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from stock_assets.config import Dataset, Params, Rename, SearchSpace, load_params
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.splits import split_dataset
from stock_assets_tests.conftest import ROOT


def params_file(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_loads() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.prices.source == "sample"
    assert params.prices.first_session == date(2000, 3, 1)
    assert params.dataset.window == 30
    assert params.schedule.daily_at == time(18, 30)
    assert params.monitoring.thresholds.relative_mae_max == 1.5
    assert params.monitoring.thresholds.mape_max is None


def test_the_shipped_file_names_every_section() -> None:
    named = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(named) == set(Params.model_fields)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_params(params_file(tmp_path, "")) == Params()


def test_parameters_round_trip_through_json() -> None:
    params = load_params(ROOT / "params.yaml")
    assert Params.model_validate(params.model_dump(mode="json")) == params


def test_parameters_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Params().dataset.window = 5  # type: ignore[misc]


def test_tickers_are_upper_case_and_sorted(tmp_path: Path) -> None:
    path = params_file(tmp_path, "prices: {tickers: [msft, ' aapl ', IBM]}")
    assert load_params(path).prices.tickers == ["AAPL", "IBM", "MSFT"]


def renames(*lines: str, tickers: str = "AAPL, IBM, META") -> str:
    """Parameters with a rename per line of old and new name and first session."""
    keys = ("old", "new", "first_session")
    parts = [
        ", ".join(f"{key}: {word}" for key, word in zip(keys, line.split(), strict=False))
        for line in lines
    ]
    listed = ", ".join(f"{{{part}}}" for part in parts)
    return f"prices: {{tickers: [{tickers}], renames: [{listed}]}}"


def test_renames_are_upper_case_and_dated(tmp_path: Path) -> None:
    path = params_file(tmp_path, renames("fb meta 2022-06-09"))
    assert load_params(path).prices.renames == [
        Rename(old="FB", new="META", first_session=date(2022, 6, 9))
    ]


@pytest.mark.parametrize(
    "text",
    [
        renames("FB META 2022-06-09", tickers="FB, IBM, META"),  # FB is another company's now
        renames("OLD FB 2012-05-18", "FB META 2022-06-09"),
        renames("FB META 2022-06-09", "FB IBM 2030-01-02"),  # and that one's name changed too
    ],
)
def test_renames_may_be_chained_and_symbols_reused(tmp_path: Path, text: str) -> None:
    params = load_params(params_file(tmp_path, text))
    assert params.prices.renames
    assert Params.model_validate(params.model_dump(mode="json")) == params


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("pricse: {}", "pricse"),
        ("dataset: {windows: 30}", "dataset.windows"),
        ("dataset: {window: 0}", r"dataset.window: .* \(got 0\)"),
        ("dataset: {window: thirty}", r"dataset.window: .* \(got 'thirty'\)"),
        ("prices: {source: bloomberg}", "prices.source"),
        ("prices: {tickers: []}", "prices.tickers"),
        ("prices: {tickers: [IBM, ../IBM]}", r"prices.tickers: .* not '\.\./IBM'"),
        ("prices: {tickers: [^GSPC]}", r"prices.tickers: .* not '\^GSPC'"),
        ("prices: {tickers: [IBM, ibm]}", r"prices.tickers: .*(?i:repeated: \['ibm'\])"),
        (renames("FB META 2022-06-09", "FB IBM 2022-06-09"), "prices: FB is renamed twice on 2022"),
        (renames("FB fb 2022-06-09"), r"prices\.renames\.0: FB is renamed to itself"),
        (renames("FB M/A 2022-06-09"), r"prices\.renames\.0\.new: .* not 'M/A'"),
        (renames("FB META june"), r"prices\.renames\.0\.first_session: .*date"),
        (renames("FB META"), r"prices\.renames\.0\.first_session"),
        (
            renames("FB METAX 2022-06-09"),
            r"prices: FB → METAX \(2022-06-09\): METAX is not among tickers",
        ),
        (
            renames("FB META 2022-06-09", "META FB 2023-01-03"),
            r"prices: FB → META \(2022-06-09\) must be after META → FB \(2023-01-03\)",
        ),
        (
            renames("META METV 2022-06-09", "FB META 2022-06-09", tickers="META, METV"),
            r"prices: META → METV \(2022-06-09\) must be after",
        ),
        (
            renames("META METV 2022-01-31", "FB META 2022-06-09", tickers="META, METV"),
            r"prices: META → METV \(2022-01-31\) must be after .* remove the rename",
        ),
        ("forecast: {coverages: [1.0]}", r"forecast\.coverages\.0"),
        ("forecast: {coverages: [0.9, 0.5]}", "coverages must be ascending"),
        ("forecast: {coverages: []}", "forecast.coverages"),
        ("features: {groups: [astrology]}", "features.groups"),
        ("tuning: {search_space: {layers: {low: 3, high: 1}}}", "tuning.search_space: .*layers"),
        ("tuning: {search_space: {hidden_size: {low: 10, high: 12}}}", "multiples of the 4"),
        ("tuning: {search_space: {layers: {low: 0, high: 1}}}", "layers: low must be at least 1"),
        ("tuning: {search_space: {hidden_size: {low: 0, high: 8}}}", "hidden_size: low must be"),
        ("tuning: {search_space: {batch_size: {low: 0, high: 8}}}", "batch_size: low must be"),
        ("tuning: {search_space: {dropout: {low: 0.5, high: 1}}}", "dropout: .* high less than 1"),
        (
            "tuning: {search_space: {learning_rate: {low: 0, high: 0.1, log: true}}}",
            "learning_rate: low must be greater than 0",
        ),
        (
            "tuning: {search_space: {learning_rate: {low: 0.1, high: 0.2, log: true, step: 0.1}}}",
            r"tuning\.search_space\.learning_rate: log and step exclude each other\.",
        ),
        (
            "dataset: {history_sessions: 219, window: 30}",
            r"dataset: history_sessions of 219 is too small: at least 220 are needed",
        ),
        ("monitoring: {thresholds: {mape: 0.1}}", "monitoring.thresholds.mape"),
        ("- 1\n- 2", "the file"),
    ],
)
def test_an_invalid_key_is_an_error_of_one_line(tmp_path: Path, text: str, key: str) -> None:
    path = params_file(tmp_path, text)
    with pytest.raises(StockAssetsError, match=key) as caught:
        load_params(path)
    assert str(path) in caught.value.problem
    assert "\n" not in str(caught.value)
    assert "docs/configuration.md" in caught.value.remedy


def test_a_missing_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StockAssetsError, match=r"does not exist\. Run from the project folder"):
        load_params(tmp_path / "params.yaml")


def test_broken_yaml_names_the_line_in_one_line(tmp_path: Path) -> None:
    path = params_file(tmp_path, "prices:\n  tickers: [IBM\ndataset: {}")
    with pytest.raises(StockAssetsError, match=r"is not valid YAML: .*line 3") as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_another_encoding_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("prices: {csv_folder: données}".encode("latin-1"))
    with pytest.raises(StockAssetsError, match=r"is not text in UTF-8: byte 25 is 0xe9\. Save"):
        load_params(path)


@pytest.mark.parametrize("length", [1, 4])
def test_the_least_history_is_what_the_split_takes(length: int) -> None:
    least = Dataset(
        history_sessions=7 + 2 * (2 + length - 1) + 40 + 20 + length,
        window=7,
        prediction_length=length,
        embargo_sessions=2,
        validation_sessions=40,
        test_sessions=20,
    )
    assert least.history_sessions is not None
    assert len(split_dataset(least.history_sessions, least).train) == 1
    with pytest.raises(StockAssetsError, match="too few"):
        split_dataset(least.history_sessions - 1, least)


def test_a_time_without_quotes_is_an_error(tmp_path: Path) -> None:
    """YAML reads 18:30 as the number 1110."""
    with pytest.raises(StockAssetsError, match=r'schedule\.daily_at: .*write "18:30"'):
        load_params(params_file(tmp_path, "schedule: {daily_at: 18:30}"))


def test_a_search_space_of_one_point_is_allowed() -> None:
    space = SearchSpace.model_validate({"layers": {"low": 1, "high": 1}})
    assert (space.layers.low, space.layers.high) == (1, 1)


@pytest.mark.parametrize("stop", ["", "."])
def test_an_error_is_a_problem_and_a_remedy_with_one_stop_each(stop: str) -> None:
    error = StockAssetsError(f"It broke{stop}", f"Mend it{stop}")
    assert str(error) == "It broke. Mend it."
    assert not re.search(r"\.\.", str(error))


def test_a_removed_key_is_an_error_that_names_what_replaced_it(tmp_path: Path) -> None:
    path = params_file(tmp_path, "monitoring: {minimum_forecasts: 50}")
    with pytest.raises(StockAssetsError, match=r"minimum_forecasts was removed") as caught:
        load_params(path)
    assert "monitoring.sessions_between_false_alarms" in caught.value.remedy


def test_two_tickers_can_be_monitored(tmp_path: Path) -> None:
    path = params_file(tmp_path, "prices: {tickers: [IBM, MSFT]}")
    assert load_params(path).monitoring == Params().monitoring


def test_renamed_key_is_an_error_that_names_the_new_one(tmp_path: Path) -> None:
    with pytest.raises(StockAssetsError, match=r"forecast\.coverage was renamed") as caught:
        load_params(params_file(tmp_path, "forecast: {coverage: 0.9}"))
    assert "forecast.coverages" in caught.value.remedy
