"""A self-contained model: from as-traded bars to forecasts, with nothing else at hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from stock_assets.config import Basis, Rename, Target
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.drift import BINS, Reference, count_rows, stability
from stock_assets.features.labels import cumulate_steps
from stock_assets.features.panel import Panel, build_panel
from stock_assets.features.scaling import Scaler, blocks
from stock_assets.features.windows import Windows, usable_windows
from stock_assets.market import calendar
from stock_assets.market.adjustment import AdjustmentFactors, adjustment_factors, rebase
from stock_assets.models.networks import Network, NetworkSpec, build_network
from stock_assets.models.training import forecast_scaled, weights_digest

FORECAST_COLUMNS = (
    "as_of_session",
    "target_session",
    "ticker",
    "horizon",
    "last_close",
    "predicted_return",
    "predicted_price",
    "lower_price",
    "upper_price",
    "coverage",
)
_SPECIFICATION = "bundle.json"
_WEIGHTS = "network.safetensors"
_BATCH = 32


@dataclass(frozen=True)
class Recipe:
    """All that a network needs to turn bars into forecasts, besides its weights.

    Attributes
    ----------
    dataset_run_id : str
        The dataset it was trained on.
    as_of, first_session : date
        The newest session the dataset saw, and the session where history starts; features that
        remember their past are computed from there in training and in serving alike.
    tickers, features : tuple of str
        The axes N and F of the panel.
    basis, adjustment_factors : str, dict
        Price basis of the features and, per ticker, the factors at the as-of session in the bars of
        the dataset: bars after it are brought to the same shares as the bars that the scalers were
        fitted on.
    target : str
        What the network predicts of each session: ``log_return`` or ``close``.
    network : NetworkSpec
        Its architecture and sizes, the horizon H among them.
    feature_scaler, target_scaler : Scaler
        Fitted on the training sessions only; shapes (N, F) and (N, 1).
    reference : Reference
        How the scaled features of these sessions are distributed, all tickers together.
    interval_widths : tuple of float
        Half the width of the prediction interval for 1 to H sessions ahead, in scaled target units.
    coverage : float
        Share of outcomes that each interval is meant to hold.
    """

    dataset_run_id: str
    as_of: date
    first_session: date
    tickers: tuple[str, ...]
    features: tuple[str, ...]
    basis: Basis
    adjustment_factors: dict[str, AdjustmentFactors]
    target: Target
    network: NetworkSpec
    feature_scaler: Scaler
    target_scaler: Scaler
    reference: Reference
    interval_widths: tuple[float, ...]
    coverage: float

    def renamed(self, renames: Sequence[Rename]) -> Recipe:
        """Call the tickers by the names that they have now; their order stays.

        Only renames that came after the as-of session count: a later dataset has the new names, and
        may have an old one that was given to another company. A ticker keeps its name where the
        dataset had the new one beside it.
        """
        now = {ticker: ticker for ticker in self.tickers}
        for rename in sorted(renames, key=lambda rename: rename.first_session):
            if self.as_of < rename.first_session and rename.new not in now.values():
                now = {
                    ticker: rename.new if name == rename.old else name
                    for ticker, name in now.items()
                }
        return replace(
            self,
            tickers=tuple(now.values()),
            adjustment_factors={
                now[ticker]: anchor for ticker, anchor in self.adjustment_factors.items()
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as plain values that JSON holds without loss.

        The keys are a file format: the digest of every registered version covers them, so they keep
        their names whatever the fields are called.
        """
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        factors = plain.pop("adjustment_factors")
        return plain | {
            "as_of": self.as_of.isoformat(),
            "first_session": self.first_session.isoformat(),
            "anchors": {ticker: asdict(own) for ticker, own in factors.items()},
            "network": self.network.to_dict(),
            "feature_scaler": self.feature_scaler.to_dict(),
            "target_scaler": self.target_scaler.to_dict(),
            "reference": self.reference.to_dict(),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Recipe:
        """Rebuild a recipe from :meth:`to_dict`."""
        own = dict(plain)
        factors = own.pop("anchors")
        return cls(
            **own
            | {
                "as_of": date.fromisoformat(own["as_of"]),
                "first_session": date.fromisoformat(own["first_session"]),
                "tickers": tuple(own["tickers"]),
                "features": tuple(own["features"]),
                "adjustment_factors": {
                    ticker: AdjustmentFactors(**values) for ticker, values in factors.items()
                },
                "network": NetworkSpec.from_dict(own["network"]),
                "feature_scaler": Scaler.from_dict(own["feature_scaler"]),
                "target_scaler": Scaler.from_dict(own["target_scaler"]),
                "reference": Reference.from_dict(own["reference"]),
                "interval_widths": tuple(own["interval_widths"]),
            }
        )


class Bundle:
    """A network with its recipe.

    Parameters
    ----------
    recipe : Recipe
        How bars become inputs and outputs become prices.
    network : Network
        Built from ``recipe.network``, with trained weights.
    """

    def __init__(self, recipe: Recipe, network: Network) -> None:
        self.recipe = recipe
        self.network = network

    def save(self, folder: Path) -> None:
        """Write ``bundle.json`` and ``network.safetensors`` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.cpu() for name, value in self.network.state_dict().items()}
        save_file(weights, folder / _WEIGHTS)
        text = json.dumps(self.recipe.to_dict(), indent=1, allow_nan=False)
        (folder / _SPECIFICATION).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a bundle that :meth:`save` wrote; nothing in it is executable.

        Raises
        ------
        StockAssetsError
            The folder holds no bundle, or that of another version of this package.
        """
        try:
            plain = json.loads((folder / _SPECIFICATION).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StockAssetsError(
                f"{folder} holds no model bundle", "Train one: stock-assets retrain"
            ) from None
        try:
            recipe = Recipe.from_dict(plain)
        except (KeyError, TypeError):
            raise StockAssetsError(
                f"the model bundle in {folder} was written by another version of this package",
                "Install that version, or give tracking.model_name in params.yaml another name, "
                "so that no earlier model is looked for, and train one: stock-assets retrain",
            ) from None
        network = build_network(recipe.network)
        network.load_state_dict(load_file(folder / _WEIGHTS))
        return cls(recipe, network.eval())

    def digest(self) -> str:
        """SHA-256 over the recipe and the weights: equal models have equal digests."""
        recipe = json.dumps(self.recipe.to_dict(), sort_keys=True)
        return hashlib.sha256(f"{recipe}{weights_digest(self.network)}".encode()).hexdigest()

    def panel(self, bars: pd.DataFrame, last: date) -> Panel:
        """Build the feature panel from the first session of history to `last`.

        The adjustment factors in the recipe belong to the bars that the dataset had. Bars that
        reach its as-of session give their own, so that a later start or a corrected event moves
        no price level.
        """
        recipe = self.recipe
        known = bars[bars["ticker"].isin(recipe.tickers)]
        first, end = pd.Timestamp(recipe.first_session), pd.Timestamp(last)
        known = known[known["session"].between(first, end)].reset_index(drop=True)
        factors = recipe.adjustment_factors
        if last >= recipe.as_of:
            factors = adjustment_factors(
                known[known["session"] <= pd.Timestamp(recipe.as_of)], recipe.basis
            )
        return build_panel(
            rebase(known, recipe.basis, factors),
            recipe.tickers,
            recipe.features,
            recipe.first_session,
            last,
        )

    def forecast(
        self, bars: pd.DataFrame, sessions: Sequence[date], panel: Panel | None = None
    ) -> pd.DataFrame:
        """Forecast the 1 to H sessions after each of `sessions`, per ticker.

        Features are causal, so the forecasts of many sessions come from one pass and equal those
        made one session at a time, with no later bar at hand.

        Parameters
        ----------
        bars : DataFrame
            Bars as traded, from the first session of history to the last of `sessions`.
        sessions : sequence of date
            As-of sessions, ascending.
        panel : Panel, optional
            What :meth:`panel` gives for these bars and the last of `sessions`, if it is at hand.

        Returns
        -------
        DataFrame
            `FORECAST_COLUMNS`, ordered by as-of session, ticker and horizon. ``horizon`` is the
            number of sessions from the as-of session to the target, ``predicted_return`` the log
            return over all of them; prices are in the shares of the as-of session, the lower bound
            not below zero. A ticker without enough valid sessions in its window has no row, nor one
            that training knows too little of to have a scale of its own, where levels are forecast.
        """
        recipe = self.recipe
        panel = self.panel(bars, sessions[-1]) if panel is None else panel
        ends = self._ends(panel, sessions)
        forecastable = usable_windows(panel.valid, ends, recipe.network.window)
        if recipe.target == "close":
            forecastable &= ~recipe.target_scaler.pooled
        rows, columns = np.nonzero(forecastable)
        ahead = cumulate_steps(self._scaled(panel, ends), recipe.target)
        widths = np.array(recipe.interval_widths)[:, np.newaxis]
        middle, lower, upper = (
            self._ratio(ahead + shift, panel.close[ends])[rows, :, columns]
            for shift in (0.0, -widths, widths)
        )
        close = _as_traded_close(bars, sessions, recipe.tickers)[rows, columns, np.newaxis]
        horizons = np.arange(1, recipe.network.horizon + 1)
        frame = pd.DataFrame(
            {
                "as_of_session": pd.DatetimeIndex(list(sessions))[rows].repeat(len(horizons)),
                "target_session": self._targets(sessions)[rows].ravel(),
                "ticker": np.array(recipe.tickers, dtype=object)[columns].repeat(len(horizons)),
                "horizon": np.tile(horizons, len(rows)),
                "last_close": close.repeat(len(horizons)),
                "predicted_return": np.log(middle).ravel(),
                "predicted_price": (close * middle).ravel(),
                "lower_price": np.maximum(close * lower, 0.0).ravel(),
                "upper_price": (close * upper).ravel(),
                "coverage": recipe.coverage,
            }
        )
        return frame[list(FORECAST_COLUMNS)]

    def drift(self, panel: Panel, sessions: Sequence[date]) -> pd.DataFrame:
        """Measure how far the inputs of late are distributed from those of training.

        Of late are as many sessions up to each as-of session, itself included, as the recipe's
        reference says.

        The rows of all tickers are pooled: scaled by their own statistics, they are on one scale.

        Parameters
        ----------
        panel : Panel
            What :meth:`panel` gives for the last of `sessions`, or a later one.
        sessions : sequence of date
            As-of sessions, ascending.

        Returns
        -------
        DataFrame
            ``as_of_session``, ``feature``, ``psi`` (the population stability index), ``rows`` (of
            so many tickers and sessions) and ``baseline_p95`` (what one in twenty
            windows of training has), ordered by as-of session and then as the recipe orders
            features. A session without a valid row in its window has none.
        """
        reference, ends = self.recipe.reference, self._ends(panel, sessions)
        first = max(ends[0] + 1 - reference.sessions, 0)
        seen = panel.values[first : ends[-1] + 1]
        counted = np.zeros((len(seen) + 1, len(panel.features), BINS), dtype=np.int64)
        for part in blocks(len(seen), seen[0].size):
            scaled = self.recipe.feature_scaler.transform(seen[part])
            counted[part.start + 1 : part.stop + 1] = count_rows(scaled, reference.edges)
        counted.cumsum(axis=0, out=counted)
        stops = ends + 1 - first
        within = counted[stops] - counted[np.maximum(stops - reference.sessions, 0)]
        rows = within[:, 0].sum(axis=-1)
        some = rows > 0
        features = np.array(panel.features, dtype=object)
        count = len(features)
        return pd.DataFrame(
            {
                "as_of_session": pd.DatetimeIndex(list(sessions))[some].repeat(count),
                "feature": np.tile(features, some.sum()),
                "psi": stability(within[some], reference.counts).ravel(),
                "rows": rows[some].repeat(count),
                "baseline_p95": np.tile(reference.baseline_p95, some.sum()),
            }
        )

    def _ends(self, panel: Panel, sessions: Sequence[date]) -> NDArray[np.intp]:
        """Positions of `sessions` in the panel, each with a whole window before it."""
        ends = panel.sessions.get_indexer(pd.DatetimeIndex(list(sessions)))
        window = self.recipe.network.window
        for session in np.array(sessions)[ends < 0]:
            calendar.require_session(session)
        if (ends < window - 1).any():
            raise StockAssetsError(
                f"{sessions[0]} has less than {window} sessions of history "
                f"since {self.recipe.first_session}",
                "Forecast a later session",
            )
        return ends

    def _targets(self, sessions: Sequence[date]) -> NDArray[np.datetime64]:
        """Sessions that are forecast, shape (B, H)."""
        horizon = self.recipe.network.horizon
        later = [day for session in sessions for day in calendar.next_sessions(session, horizon)]
        return pd.DatetimeIndex(later).to_numpy().reshape(-1, horizon)

    def _scaled(self, panel: Panel, ends: NDArray[np.intp]) -> NDArray[np.float64]:
        """Network outputs for the windows that end at `ends`, shape (B, H, N), scaled units.

        The last bits of a matrix product depend on how many rows it has and on a row's place among
        them, though not on what the others hold. So every session has its own place in a batch of
        one size, whichever sessions are asked for.
        """
        recipe, window = self.recipe, self.recipe.network.window
        values, valid = torch.from_numpy(panel.values), torch.from_numpy(panel.valid)
        windows = Windows.from_panel(values, valid, recipe.feature_scaler, window)
        outputs = np.empty((len(ends), recipe.network.horizon, len(panel.tickers)))
        for batch in np.unique(ends // _BATCH):
            places = np.arange(batch * _BATCH, (batch + 1) * _BATCH)
            filled = np.clip(places, window - 1, len(values) - 1)
            forecast = forecast_scaled(self.network, windows, filled)
            wanted = ends // _BATCH == batch
            outputs[wanted] = forecast[ends[wanted] % _BATCH]
        return outputs

    def _ratio(
        self, scaled: NDArray[np.float64], close: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Forecast prices, scaled (B, H, N), over as-of closes (B, N): shape (B, H, N)."""
        target = self.recipe.target_scaler.inverse(scaled[..., None])[..., 0]
        if self.recipe.target == "log_return":
            return np.exp(target)
        return np.asarray(target / close[:, np.newaxis])


def _as_traded_close(
    bars: pd.DataFrame, sessions: Sequence[date], tickers: Sequence[str]
) -> NDArray[np.float64]:
    """Give closes as traded, shape (B, N), NaN without a bar."""
    index = pd.DatetimeIndex(list(sessions))
    wanted = bars[bars["session"].isin(index)]
    closes = np.full((len(index), len(tickers)), np.nan)
    columns = pd.Index(tickers).get_indexer(pd.Index(wanted["ticker"]))
    held = columns >= 0
    rows = index.get_indexer(pd.DatetimeIndex(wanted["session"]))
    closes[rows[held], columns[held]] = wanted["close"].to_numpy()[held]
    return closes
