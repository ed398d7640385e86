"""Proofs: a forecast is computed again from the rows known then, and any change is found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from stock_assets.config import Rename
from stock_assets.core import fingerprints
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations
from stock_assets.datasets import rebuild
from stock_assets.features.dataset import FeatureSet
from stock_assets.models.bundle import Bundle
from stock_assets.pipeline import proof
from stock_assets.pipeline.forecasting import make_forecasts, store_forecasts
from stock_assets.pipeline.proof import Stores, prove
from stock_assets.pipeline.proof_findings import TOLERANCE, Finding, Outcome, Proof
from stock_assets.registry import Registry
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.forecast_lookup import find_forecasts, sample_forecasts
from stock_assets.storage.renames import apply_renames
from stock_assets_tests.conftest import Loop, throw_away_database
from stock_assets_tests.tampering import tampering

FORECAST = "2013-01-14/IBM/1"
SESSION, TICKER = date(2013, 1, 14), "IBM"
OWN = f"as_of_session = '{SESSION}' AND ticker = '{TICKER}'"


@pytest.fixture
def stores(loop: Loop) -> Stores:
    opened, params = loop.platform, loop.platform.params
    arrays = ArrayStore(opened.locations.arrays_url)
    return Stores(opened.engine, arrays, Registry(params.tracking, params.prices.renames), params)


def proved(stores: Stores, name: str = FORECAST, *, retrain: bool = False) -> Proof:
    (found,) = prove(stores, find_forecasts(stores.engine, name), retrain=retrain)
    return found


def outcomes(findings: Sequence[Finding]) -> dict[str, Outcome]:
    return {finding.name: finding.outcome for finding in findings}


def parts(found: Proof, name: str) -> dict[str, Outcome]:
    (finding,) = (finding for finding in found.findings if finding.name == name)
    return outcomes(finding.parts)


def failing_parts(found: Proof, name: str) -> set[str]:
    return {part for part, outcome in parts(found, name).items() if outcome == Outcome.FAILS}


def failed(found: Proof) -> set[str]:
    assert not found.holds
    return {name for name, outcome in outcomes(found.findings).items() if outcome == Outcome.FAILS}


@contextmanager
def edited(stores: Stores, *statements: str) -> Iterator[None]:
    """Rows changed outside the record; each statement undoes itself when it is run again."""
    _execute(stores, statements)
    try:
        yield
    finally:
        _execute(stores, statements)


def _execute(stores: Stores, statements: Sequence[str]) -> None:
    with tampering(stores.engine) as connection:
        for statement in statements:
            assert connection.execute(text(statement)).rowcount


def test_a_forecast_holds_from_the_number_back_to_rows(stores: Stores) -> None:
    found = proved(stores)
    assert found.holds
    assert outcomes(found.findings) == dict.fromkeys(
        ("record", "environment", "prices", "model", "dataset", "number"), Outcome.HOLDS
    )
    assert (found.forecast["as_of_session"], found.forecast["ticker"]) == (SESSION, TICKER)
    dataset = next(finding for finding in found.findings if finding.name == "dataset")
    assert {"rows", "panel", "scalers", "segments", "file"} <= outcomes(dataset.parts).keys()


def test_forecasts_drawn_at_random_hold(stores: Stores) -> None:
    proofs = prove(stores, sample_forecasts(stores.engine, 10), retrain=False)
    assert len(proofs) == 10
    assert all(found.holds for found in proofs)


@pytest.mark.long
def test_a_hundred_forecasts_drawn_at_random_hold(stores: Stores) -> None:
    proofs = prove(stores, sample_forecasts(stores.engine, 100), retrain=False)
    assert [found.outcome for found in proofs] == [Outcome.HOLDS] * 100


def test_an_issue_is_all_its_forecasts(stores: Stores) -> None:
    (one,) = find_forecasts(stores.engine, FORECAST)
    found = find_forecasts(stores.engine, str(one["issue"]))
    assert {row["issue"] for row in found} == {one["issue"]}
    assert FORECAST in {f"{r['as_of_session']}/{r['ticker']}/{r['horizon']}" for r in found}


def test_weights_that_are_trained_again_are_equal(stores: Stores) -> None:
    found = proved(stores, retrain=True)
    assert found.holds
    model = next(finding for finding in found.findings if finding.name == "model")
    assert outcomes(model.parts)["weights"] == Outcome.HOLDS


def test_a_changed_forecast_is_found(stores: Stores) -> None:
    change = f"SET predicted_price = -predicted_price WHERE {OWN}"
    with edited(stores, f"UPDATE predictions {change}"):
        assert failed(proved(stores)) == {"record"}
    with edited(stores, f"UPDATE predictions {change}", f"UPDATE predictions_history {change}"):
        assert failed(proved(stores)) == {"record", "number"}


def test_a_changed_price_is_found(stores: Stores) -> None:
    where = f"WHERE session = '{SESSION}' AND ticker = '{TICKER}'"
    with edited(stores, f"UPDATE raw_stock_data_history SET close = open, open = close {where}"):
        assert {"prices", "number"} <= failed(proved(stores))


def test_a_later_revision_changes_nothing(stores: Stores) -> None:
    where = f"WHERE session = '{SESSION}' AND ticker = '{TICKER}'"
    with edited(stores, f"UPDATE raw_stock_data SET close = open, open = close {where}"):
        found = proved(stores)
    assert outcomes(found.findings)["number"] == Outcome.HOLDS


def test_changed_weights_are_found(stores: Stores) -> None:
    paths = list(find_locations().artifacts_folder.rglob("network.safetensors"))
    before = [path.read_bytes() for path in paths]
    for path, content in zip(paths, before, strict=True):
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        found = proved(stores)
    finally:
        for path, content in zip(paths, before, strict=True):
            path.write_bytes(content)
    assert failed(found) == {"environment", "prices", "model", "number"}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another processor than the one that built the dataset and issued the forecasts."""
    monkeypatch.setattr(proof, "describe_device", lambda network: "another processor")
    monkeypatch.setattr(fingerprints, "_processor", lambda: "another processor")


def perturb(monkeypatch: pytest.MonkeyPatch, share: float | None = None) -> None:
    """Change each computed value: in its last bit, or by a share of it."""

    def changed(values: Any) -> Any:
        return np.nextafter(values, np.inf) if share is None else values * (1 + share)

    build, forecast = rebuild.build_feature_set, Bundle.forecast

    def build_changed(*arguments: Any) -> FeatureSet:
        built = build(*arguments)
        panel = replace(built.panel, values=changed(built.panel.values))
        return replace(built, panel=panel)

    def forecast_changed(*arguments: Any) -> pd.DataFrame:
        made = forecast(*arguments)
        return made.assign(predicted_price=changed(made["predicted_price"]))

    monkeypatch.setattr(rebuild, "build_feature_set", build_changed)
    monkeypatch.setattr(Bundle, "forecast", forecast_changed)


def test_the_last_bit_fails_in_the_same_environment(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    perturb(monkeypatch)
    found = proved(stores)
    assert failed(found) == {"dataset", "number"}
    assert failing_parts(found, "dataset") == {"panel", "scalers", "segments"}


@pytest.mark.usefixtures("elsewhere")
def test_another_processor_is_named_and_equal_bits_hold(stores: Stores) -> None:
    found = proved(stores)
    assert outcomes(found.findings)["environment"] == Outcome.DIFFERS
    assert parts(found, "dataset")["environment"] == Outcome.DIFFERS
    assert found.outcome == Outcome.HOLDS


@pytest.mark.usefixtures("elsewhere")
def test_values_of_another_processor_hold_within_the_tolerance(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    perturb(monkeypatch)
    found = proved(stores)
    assert found.outcome == Outcome.CLOSE
    close = {name for name, outcome in parts(found, "dataset").items() if outcome == Outcome.CLOSE}
    assert close == {"panel", "scalers", "segments"}
    number = next(finding for finding in found.findings if finding.name == "number")
    assert f"compared within {TOLERANCE:g}" in number.message


@pytest.mark.usefixtures("elsewhere")
def test_values_of_another_processor_fail_outside_the_tolerance(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    perturb(monkeypatch, 10 * TOLERANCE)
    found = proved(stores)
    assert failed(found) == {"dataset", "number"}
    assert "panel" in failing_parts(found, "dataset")


def test_other_libraries_are_not_ticked(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "LIBRARIES", ("numpy",))
    found = proved(stores)
    (environment,) = (f for f in found.findings if f.name == "environment")
    assert environment.outcome == Outcome.DIFFERS
    assert "pandas" in environment.message
    assert found.outcome == Outcome.HOLDS


def test_an_unknown_build_environment_is_not_ticked(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = proof.issue_facts
    monkeypatch.setattr(
        proof, "issue_facts", lambda *of: {**(known(*of) or {}), "build_environment": None}
    )
    found = proved(stores)
    assert outcomes(found.findings)["environment"] == Outcome.NOT_RECORDED


@pytest.fixture
def renamed(loop: Loop, stores: Stores) -> Iterator[Stores]:
    """A copy of the database in which IBM has another name; its registry knows."""
    rename = Rename(old=TICKER, new="BIG", first_session=date(2013, 2, 1))
    with throw_away_database(loop.platform, "stock_assets") as url:
        engine = create_engine(url, poolclass=NullPool)
        apply_renames(engine, [rename])
        registry = Registry(stores.params.tracking, [rename])
        yield replace(stores, engine=engine, registry=registry)


def test_a_forecast_of_a_renamed_ticker_holds_by_each_of_its_names(renamed: Stores) -> None:
    (one,) = find_forecasts(renamed.engine, FORECAST)
    for name in (FORECAST, FORECAST.replace(TICKER, "BIG"), str(one["issue"])):
        forecasts = find_forecasts(renamed.engine, name)
        assert one["ticker"] == "BIG"
        assert len({(r["as_of_session"], r["ticker"], r["horizon"]) for r in forecasts}) == len(
            forecasts
        )
        assert all(found.holds for found in prove(renamed, forecasts, retrain=False))


@pytest.fixture
def of_persistence(loop: Loop, stores: Stores) -> Iterator[Stores]:
    """A copy of the database in which persistence has forecast the session."""
    with throw_away_database(loop.platform, "stock_assets") as url:
        engine = create_engine(url, poolclass=NullPool)
        made = make_forecasts(engine, stores.registry, [], [SESSION], stores.params)
        store_forecasts(engine, made, stores.params.prices.tickers, "run")
        yield replace(stores, engine=engine)


def test_a_forecast_of_persistence_holds_to_the_bit(of_persistence: Stores) -> None:
    found = proved(of_persistence)
    assert found.forecast["model_version"] == 0
    assert outcomes(found.findings) == dict.fromkeys(
        ("record", "environment", "prices", "model", "number"), Outcome.HOLDS
    )


def test_a_forecast_of_persistence_holds_under_a_new_name(of_persistence: Stores) -> None:
    rename = Rename(old=TICKER, new="BIG", first_session=date(2013, 2, 1))
    apply_renames(of_persistence.engine, [rename])
    prices = of_persistence.params.prices.model_copy(update={"renames": [rename]})
    params = of_persistence.params.model_copy(update={"prices": prices})
    assert proved(replace(of_persistence, params=params)).holds


@pytest.mark.parametrize(
    ("statement", "parts"),
    [
        (
            f"UPDATE predictions_history SET upper_price = 1e6 WHERE model_version = 0 AND {OWN}",
            {"record", "number"},
        ),
        (
            "UPDATE forecast_issues SET params = jsonb_set(params, '{forecast,scale}', "
            "'\"constant\"') WHERE issue = (SELECT max(issue) FROM forecast_issues)",
            {"record", "model", "number"},
        ),
        (
            f"UPDATE raw_stock_data_history SET close = close * 1.01 WHERE ticker = '{TICKER}' "
            f"AND session = '{SESSION}'",
            {"prices", "number"},
        ),
    ],
    ids=["number", "settings", "price"],
)
def test_a_change_behind_a_forecast_of_persistence_is_found(
    of_persistence: Stores, statement: str, parts: set[str]
) -> None:
    with tampering(of_persistence.engine) as connection:
        connection.execute(text(statement))
    assert failed(proved(of_persistence)) == parts


def test_a_changed_rename_is_found(renamed: Stores) -> None:
    with tampering(renamed.engine) as connection:
        connection.execute(text("UPDATE ticker_renames SET rows = rows + 1"))
    assert failed(proved(renamed)) == {"prices"}


def test_a_forecast_of_a_model_of_an_earlier_name_holds(stores: Stores) -> None:
    tracking = stores.params.tracking.model_copy(update={"model_name": "Another"})
    assert proved(replace(stores, registry=Registry(tracking))).holds


def test_unrecorded_facts_are_not_ticked(stores: Stores) -> None:
    (row,) = find_forecasts(stores.engine, FORECAST)
    (found,) = prove(stores, [{**row, "issue": None}], retrain=False)
    assert outcomes(found.findings)["environment"] == Outcome.NOT_RECORDED
    assert outcomes(found.findings)["prices"] == Outcome.NOT_RECORDED
    assert found.holds


def test_a_version_that_is_not_registered_fails(stores: Stores) -> None:
    (row,) = find_forecasts(stores.engine, FORECAST)
    (found,) = prove(stores, [{**row, "model_version": 99}], retrain=False)
    assert {"model", "number"} <= failed(found)


@pytest.mark.parametrize("name", ["yesterday/IBM", "yesterday"])
def test_a_name_of_another_shape_is_refused(stores: Stores, name: str) -> None:
    with pytest.raises(StockAssetsError, match="names no forecast"):
        find_forecasts(stores.engine, name)


@pytest.mark.parametrize(
    "name", ["2013-01-14", "2013-01-14/NONE", "2013-01-14/IBM/9", "2013-01-05/IBM", "999999"]
)
def test_an_unknown_forecast_is_refused_and_one_that_is_stored_named(
    stores: Stores, name: str
) -> None:
    with pytest.raises(StockAssetsError, match=name) as caught:
        find_forecasts(stores.engine, name)
    (example,) = re.findall(r"\d{4}-\d{2}-\d{2}/[A-Z]+", caught.value.remedy)
    assert find_forecasts(stores.engine, example)
