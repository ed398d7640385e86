"""Prove forecasts: compute them again from the rows that were known, and compare every digest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.core.digests import short
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import (
    build_environment,
    custom_names,
    differences,
    forecast_environment,
    plain_digest,
)
from stock_assets.core.progress import bar
from stock_assets.datasets import verify as dataset_check
from stock_assets.evaluation.production_rule import (
    PERSISTENCE_NAME,
    PERSISTENCE_VERSION,
    ModelVersion,
)
from stock_assets.market.bars import content_digest
from stock_assets.models.bundle import Bundle
from stock_assets.models.intervals import FixedIntervals
from stock_assets.models.networks import describe_device
from stock_assets.models.persistence import Persistence
from stock_assets.models.training import weights_digest
from stock_assets.pipeline.proof_findings import (
    ENVIRONMENT,
    TOLERANCE,
    WEIGHT_TOLERANCE,
    Finding,
    Outcome,
    Proof,
    compare_environments,
    compare_values,
    number_difference,
    numbers_of,
    worst,
)
from stock_assets.pipeline.repetition import train_again, weights_difference
from stock_assets.pipeline.training_logs import logged_environment, training_environment
from stock_assets.registry import Registry
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import load_panel, scaler_summary
from stock_assets.storage.forecast_lookup import issue_facts, model_of
from stock_assets.storage.prices import read_bars
from stock_assets.storage.production import production_changes
from stock_assets.storage.record import link_at
from stock_assets.storage.record_check import check_tables
from stock_assets.storage.record_faults import Fault

_ANY_LINK = 2**62
PRICE_TABLES = ("raw_stock_data", "corporate_actions")
RENAME_TABLES = ("ticker_renames",)
DATASET_TABLES = ("processed_feature_data", "scalers", "scaled_feature_sets")
FORECAST_TABLES = ("predictions", "forecast_issues")
PRODUCTION_TABLES = ("production_history",)
_TABLES = (*PRICE_TABLES, *RENAME_TABLES, *DATASET_TABLES, *FORECAST_TABLES, *PRODUCTION_TABLES)


@dataclass(frozen=True)
class Stores:
    """Where proofs read from; nothing is written."""

    engine: Engine
    arrays: ArrayStore
    registry: Registry
    params: Params


def prove(stores: Stores, forecasts: Sequence[Mapping[str, Any]], *, retrain: bool) -> list[Proof]:
    """Prove forecasts; those of one dataset, model or moment share the work.

    Parameters
    ----------
    stores : Stores
    forecasts : sequence of mapping
        From :mod:`stock_assets.storage.forecast_lookup`.
    retrain : bool
        Train each network again, and compare its weights.
    """
    with stores.engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        faults = list(check_tables(connection, _TABLES))
    work = _Work(stores, faults, forecasts, retrain=retrain)
    return [work.prove(forecast) for forecast in bar(forecasts, "prove")]


@dataclass(frozen=True)
class _Group:
    """Forecasts that were made in one call: of one version, with one issue."""

    version: int
    mlflow_run_id: str | None
    issue: int | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> _Group:
        return cls(row["model_version"], row["mlflow_run_id"], row["issue"])


class _Work:
    """What the proofs of one call share."""

    def __init__(
        self,
        stores: Stores,
        faults: Sequence[Fault],
        forecasts: Sequence[Mapping[str, Any]],
        *,
        retrain: bool,
    ) -> None:
        self._stores, self._faults, self._retrain = stores, faults, retrain
        self._sessions: dict[_Group, set[date]] = {}
        for row in forecasts:
            self._sessions.setdefault(_Group.of(row), set()).add(row["as_of_session"])
        self._facts = cache(lambda issue: issue_facts(stores.engine, issue))
        self._environment = cache(self._compare_environment)
        self._bars = cache(self._read_bars)
        self._registry = cache(self._find_registry)
        self._bundle = cache(self._load_bundle)
        self._rule = cache(self._recorded_rule)
        self._dataset = cache(self._prove_dataset)
        self._model = cache(self._prove_model)
        self._again = cache(self._forecast_again)

    def prove(self, row: Mapping[str, Any]) -> Proof:
        """Prove a forecast."""
        group = _Group.of(row)
        findings = [self._record(row)]
        findings += [self._attempt(name, prove) for name, prove in self._computed(row, group)]
        forecast = {name: value for name, value in row.items() if name != "removed"}
        return Proof(forecast, tuple(findings))

    def _computed(self, row: Mapping[str, Any], group: _Group) -> Any:
        """Yield the parts that may meet missing versions, datasets or rows."""
        yield ENVIRONMENT, lambda: self._environment(group)
        yield "prices", lambda: self._prices(group)
        if group.mlflow_run_id is None:
            yield "model", lambda: self._prove_persistence(row, group)
            yield "number", lambda: self._number(row, group)
            return
        dataset_id = row["dataset_run_id"]
        yield "model", lambda: self._model(group.version, group.mlflow_run_id, dataset_id)
        yield "dataset", lambda: self._dataset(dataset_id)
        yield "number", lambda: self._number(row, group)

    @staticmethod
    def _attempt(name: str, prove: Any) -> Finding:
        try:
            found: Finding = prove()
        except StockAssetsError as error:
            return Finding(name, Outcome.FAILS, error.problem)
        return found

    def _record(self, row: Mapping[str, Any]) -> Finding:
        """Find whether the link that wrote the forecast holds, and those before it."""
        issued = f", {row['issued']}" if row["issued"] else ""
        issue = f"issue {row['issue']}{issued}" if row["issue"] else "the issue is not recorded"
        message = f"{issue}, of {row['predicted_at']:%Y-%m-%d %H:%M:%S} UTC, in link {row['link']}"
        return self._of_tables("record", FORECAST_TABLES, message, row["link"], row)

    def _of_tables(
        self,
        name: str,
        tables: Sequence[str],
        message: str,
        link: int,
        row: Mapping[str, Any] | None = None,
    ) -> Finding:
        """Return that links up to one, and a row, hold in some tables; or the first fault."""
        for fault in self._faults:
            if fault.part == "tables":
                broken = row is not None and fault.table in tables and _is_of(fault, row)
            else:
                table = (fault.table or "").removesuffix("_history")
                broken = table in (*tables, "record_links") and (fault.link or 0) <= link
            if broken:
                return Finding(name, Outcome.FAILS, fault.message)
        return Finding(name, Outcome.HOLDS, message)

    def _find_registry(self, mlflow_run_id: str) -> Registry:
        """Return the registry of the model that a run has trained, by the record."""
        registry = self._stores.registry
        return registry.named(model_of(self._stores.engine, mlflow_run_id) or registry.model_name)

    def _load_bundle(self, version: int, mlflow_run_id: str) -> Bundle:
        return self._registry(mlflow_run_id).load(version)

    def _model_of(self, group: _Group) -> Bundle | Persistence:
        if group.mlflow_run_id is None:
            return self._rule(group)
        return self._bundle(group.version, group.mlflow_run_id)

    def _recorded_rule(self, group: _Group) -> Persistence:
        """Return persistence with the settings of an issue, its tickers under present names."""
        facts = self._facts(group.issue)
        if facts is None or facts["params"] is None:
            raise StockAssetsError(
                "the parameters of the forecast are not recorded", "Prove a later forecast"
            )
        renames, last = self._stores.params.prices.renames, max(self._sessions[group])
        return Persistence.of_recorded(facts["params"]).rename_tickers(renames, last)

    def _prove_persistence(self, row: Mapping[str, Any], group: _Group) -> Finding:
        """Compare the settings of persistence with their digest; it has no dataset and no run."""
        rule, facts = self._rule(group), self._facts(group.issue)
        settings = f"digest {short(rule.digest)} of its rule and settings; no dataset"
        if row["dataset_run_id"] is not None or row["model_version"] != PERSISTENCE_VERSION:
            return Finding("model", Outcome.FAILS, "a version without an MLflow run")
        if facts is None or plain_digest(facts["params"]) != facts["params_digest"]:
            return Finding("model", Outcome.FAILS, "other parameters than their digest says")
        return Finding("model", Outcome.HOLDS, f"{PERSISTENCE_NAME}, {settings}")

    def _compare_environment(self, group: _Group) -> Finding:
        """Compare the machine and the code with those that issued the forecast."""
        model = self._model_of(group)
        network = model.network if isinstance(model, Bundle) else None
        now = {"torch": torch.__version__, "device": describe_device(network)}
        facts = self._facts(group.issue)
        then = {} if facts is None else {name: facts[name] for name in now}
        built = None if facts is None else facts["build_environment"]
        code = differences(built, forecast_environment(custom_names(built))) if built else []
        return compare_environments(
            [*_changed(then, now), *code],
            [*(name for name in now if then.get(name) is None), *([] if built else ["code"])],
            f"torch {now['torch']}, {now['device']}",
        )

    def _read_bars(self, group: _Group) -> pd.DataFrame:
        facts, sessions = self._facts(group.issue), self._sessions[group]
        known_at = facts["known_at"] if facts else None
        first = self._model_of(group).first_session(min(sessions))
        engine = self._stores.engine
        return read_bars(engine, first, max(sessions), known_at=known_at, renamed=True)

    def _prices(self, group: _Group) -> Finding:
        """Read the bars as they were known, and find whether their links hold.

        Tickers have the names of today, so the renames of today are read.
        """
        facts, bars = self._facts(group.issue), self._bars(group)
        read = f"{len(bars):,} bars, digest {short(content_digest(bars))}"
        known_at: datetime | None = facts["known_at"] if facts else None
        if known_at is None:
            return Finding(
                "prices", Outcome.NOT_RECORDED, f"the moment; prices known now were read: {read}"
            )
        link = link_at(self._stores.engine, known_at)
        moment = f"{known_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        message = f"{read}, as known at {moment}, links 1 to {link}"
        found = self._of_tables("prices", PRICE_TABLES, message, link)
        if found.outcome == Outcome.FAILS:
            return found
        return self._of_tables("prices", RENAME_TABLES, message, _ANY_LINK, {})

    def _prove_dataset(self, dataset_id: str) -> Finding:
        """Rebuild a dataset from its rows, and compare each part with its record."""
        s = self._stores
        found = dataset_check.verify(s.engine, s.arrays, dataset_id)
        environment = self._dataset_environment(dataset_id)
        parts = [environment, *(_of_part(part, environment) for part in found.parts)]
        if found.known_at is None:
            parts.append(Finding("known at", Outcome.NOT_RECORDED, "rebuilt from the rows of now"))
        row = {"dataset_run_id": dataset_id}
        parts.append(self._of_tables("record", DATASET_TABLES, "its rows hold", _ANY_LINK, row))
        changes = "; ".join(found.changes) if worst(parts) == Outcome.FAILS else ""
        message = f"{dataset_id}, rebuilt from rows{'; ' if changes else ''}{changes}"
        return Finding("dataset", worst(parts), message, tuple(parts))

    def _dataset_environment(self, dataset_id: str) -> Finding:
        """Compare the code, libraries and processor with those that built a dataset."""
        built = load_panel(self._stores.engine, dataset_id).build_environment
        if built is None:
            return compare_environments([], ["code", "libraries", "processor"], "")
        now = build_environment(custom_names(built))
        unknown = [] if "processor" in built else ["processor"]
        same = f"version {now['package']}, {now['processor']}"
        return compare_environments(differences(built, now), unknown, same)

    def _prove_model(self, version: int, mlflow_run_id: str, dataset_id: str) -> Finding:
        """Compare a model's files with the registry, its scalers with the dataset's."""
        registry = self._registry(mlflow_run_id)
        bundle = self._bundle(version, mlflow_run_id)
        model = registry.version(version)
        parts = [
            Finding("files", Outcome.HOLDS, f"digest {short(bundle.digest())}, as registered"),
            self._in_force(registry.model_name, model),
            self._of_dataset(model.dataset, dataset_id),
            self._scalers(bundle, dataset_id),
        ]
        if self._retrain:
            parts.append(self._attempt("weights", lambda: self._weights(registry, model, bundle)))
        return Finding("model", worst(parts), str(model), tuple(parts))

    def _in_force(self, model_name: str, model: ModelVersion) -> Finding:
        """Compare a version's digest with those in the history of production."""
        changes = production_changes(self._stores.engine, model_name)
        models = [change.model for change in changes if change.model is not None]
        recorded = {m.digest for m in models if m.key == model.key and m.digest is not None}
        if not recorded:
            return Finding("in force", Outcome.NOT_RECORDED, "digest in the history of production")
        if recorded != {model.digest}:
            others = ", ".join(map(short, sorted(recorded)))
            return Finding(
                "in force", Outcome.FAILS, f"the history of production has digest {others}"
            )
        return self._of_tables(
            "in force", PRODUCTION_TABLES, "with this digest, by the record", _ANY_LINK, {}
        )

    @staticmethod
    def _of_dataset(registered: str, named: str) -> Finding:
        if registered == named:
            return Finding("trained on", Outcome.HOLDS, f"dataset {named}")
        return Finding(
            "trained on", Outcome.FAILS, f"dataset {registered}; the forecast names {named}"
        )

    def _scalers(self, bundle: Bundle, dataset_id: str) -> Finding:
        stored = scaler_summary(self._stores.engine, dataset_id)
        recipe = bundle.recipe
        digest = plain_digest((recipe.feature_scaler.to_dict(), recipe.target_scaler.to_dict()))
        if stored is not None and stored["digest"] == digest:
            return Finding("scalers", Outcome.HOLDS, f"the dataset's, digest {short(digest)}")
        return Finding("scalers", Outcome.FAILS, "other numbers than the dataset's")

    def _weights(self, registry: Registry, model: ModelVersion, bundle: Bundle) -> Finding:
        """Train a network again as it was logged, and compare its weights."""
        s = self._stores
        if isinstance(bundle.recipe.intervals, FixedIntervals):
            return Finding("weights", Outcome.NOT_RECORDED, "an earlier version trained the model")
        with tempfile.TemporaryDirectory() as folder:
            again = train_again(s.engine, s.arrays, registry, model.version, s.params, Path(folder))
        then, now = (weights_digest(b.network) for b in (bundle, again))
        if then == now:
            return Finding("weights", Outcome.HOLDS, f"trained again: digest {short(then)}")
        trained = training_environment(bundle)
        logged = logged_environment(registry.client(), model)
        environment = compare_environments(
            _changed(logged, trained), [name for name in trained if name not in logged], ""
        )
        message = f"trained again: {short(now)}, not {short(then)}"
        difference = weights_difference(bundle.network, again.network)
        return compare_values("weights", message, difference, environment, WEIGHT_TOLERANCE)

    def _forecast_again(self, group: _Group) -> pd.DataFrame:
        """Forecast every session of a group in one call."""
        made = self._model_of(group).forecast(self._bars(group), sorted(self._sessions[group]))
        return made.set_index(["as_of_session", "ticker", "horizon"])

    def _number(self, row: Mapping[str, Any], group: _Group) -> Finding:
        """Compare the numbers of a forecast with those computed again."""
        key = pd.Timestamp(row["as_of_session"]), row["ticker"], row["horizon"]
        made = self._again(group)
        if key not in made.index:
            return Finding("number", Outcome.FAILS, "the model does not forecast it now")
        again = made.loc[[key]].iloc[0]
        target = again["target_session"].date()
        then, now = numbers_of(row), numbers_of({str(name): value for name, value in again.items()})
        other = [name for name in then if now.get(name) != then[name]]
        if target != row["target_session"]:
            message = f"target_session {row['target_session']} then, {target} now"
            return Finding("number", Outcome.FAILS, message)
        if not other:
            return Finding("number", Outcome.HOLDS, f"{row['predicted_price']!r}, equal to the bit")
        shown = "; ".join(f"{name} {then[name]} then, {now.get(name)} now" for name in other)
        if any(name not in now for name in other):
            return Finding("number", Outcome.FAILS, shown)
        difference = max(number_difference(name, then[name], now[name]) for name in other)
        return compare_values("number", shown, difference, self._environment(group), TOLERANCE)


def _of_part(part: dataset_check.Part, environment: Finding) -> Finding:
    """Return what the comparison of a part of a dataset proves."""
    if part.equal:
        return Finding(part.name, Outcome.HOLDS, part.message)
    if part.equal is None:
        return Finding(part.name, Outcome.NOT_RECORDED, part.message)
    if part.difference is None:
        return Finding(part.name, Outcome.FAILS, part.message)
    return compare_values(part.name, part.message, part.difference, environment, TOLERANCE)


def _changed(then: Mapping[str, str | None], now: Mapping[str, str]) -> list[str]:
    """Describe known facts that differ."""
    known = {name: value for name, value in then.items() if value is not None}
    return [f"{n} {known[n]} then, {now[n]} now" for n in now if n in known and known[n] != now[n]]


def _is_of(fault: Fault, row: Mapping[str, Any]) -> bool:
    """Whether a fault of a table concerns a row, or names no row."""
    key = fault.key or {}
    return all(str(row[name]) == value for name, value in key.items() if name in row)
