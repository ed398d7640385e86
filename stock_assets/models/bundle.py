"""The bundle: a self-contained model that turns as-traded bars into forecasts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from stock_assets.config import Scale
from stock_assets.config.custom_code import require_code
from stock_assets.core.digests import bytes_digest
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.drift import BINS, count_rows, stability
from stock_assets.features.labels import cumulate_steps, later_targets
from stock_assets.features.panel import Panel, build_panel
from stock_assets.features.scaling import blocks
from stock_assets.features.volatility import AVERAGING, Averaging, log_ranges, volatility
from stock_assets.features.windows import Windows, usable_windows
from stock_assets.market import calendar
from stock_assets.market.adjustment import adjustment_factors, rebase
from stock_assets.models.bundle_digests import BundleDigests, read_file, unreadable
from stock_assets.models.forecast_frame import FloatArray, forecast_frame
from stock_assets.models.intervals import FixedIntervals, Intervals, ScaledIntervals
from stock_assets.models.networks import Network, build_network
from stock_assets.models.recipe import Recipe
from stock_assets.models.training import forecast_scaled, weights_digest

_SPECIFICATION = "bundle.json"
_WEIGHTS = "network.safetensors"
_RESIDUALS = "intervals/residuals"
FORECAST_BATCH = 32
"""Sessions that pass through a network at once on a CPU."""


class Bundle:
    """A network with its recipe.

    Parameters
    ----------
    recipe : Recipe
        How bars become inputs, and outputs become prices.
    network : Network
        Built from ``recipe.network``, with trained weights.
    """

    def __init__(self, recipe: Recipe, network: Network) -> None:
        self.recipe = recipe
        self.network = network

    def save(self, folder: Path) -> BundleDigests:
        """Write ``bundle.json`` and ``network.safetensors`` into a folder; return the digests."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.recipe.to_dict(), indent=1, allow_nan=False)
        weights = {name: value.cpu() for name, value in self.network.state_dict().items()}
        if isinstance(self.recipe.intervals, ScaledIntervals):
            weights[_RESIDUALS] = torch.from_numpy(self.recipe.intervals.residuals)
        contents = {_SPECIFICATION: text.encode(), _WEIGHTS: save(weights)}
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        files = {name: bytes_digest(content) for name, content in contents.items()}
        return BundleDigests(self.digest(), files)

    @classmethod
    def load(cls, folder: Path, recorded: BundleDigests | None = None) -> Bundle:
        """Load a bundle from :meth:`save`; it brings no code.

        Parameters
        ----------
        folder : Path
        recorded : BundleDigests, optional
            Compared with the bytes that are read and with their content.

        Raises
        ------
        DamagedFileError
            A file is missing, is not a model, or differs from its record.
        StockAssetsError
            An incompatible version of this package wrote the bundle, or it uses custom code that
            ``params.yaml`` does not name or that has changed.
        """
        specification, weights = (
            read_file(folder / name, recorded) for name in (_SPECIFICATION, _WEIGHTS)
        )
        try:
            plain = json.loads(specification)
        except ValueError as error:
            raise unreadable(folder / _SPECIFICATION, str(error), recorded) from None
        try:
            tensors = load(weights)
        except SafetensorError as error:
            raise unreadable(folder / _WEIGHTS, str(error), recorded) from None
        residuals = tensors.pop(_RESIDUALS, None)
        try:
            recipe = Recipe.from_dict(plain, None if residuals is None else residuals.numpy())
            require_code(recipe.custom_code, recipe.network.architecture, recipe.features)
            network = build_network(recipe.network)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise StockAssetsError(
                f"the model bundle {folder / _SPECIFICATION} is damaged or was written by an "
                "incompatible version",
                "Install that version, or change tracking.model_name in params.yaml and train a "
                "new model: stock-assets retrain",
            ) from None
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise unreadable(folder / _WEIGHTS, reason, recorded) from None
        bundle = cls(recipe, network.eval())
        if recorded is not None:
            recorded.require_content(folder, bundle.digest())
        return bundle

    def digest(self) -> str:
        """Compute the SHA-256 of the recipe, the weights and the residuals."""
        recipe, intervals = json.dumps(self.recipe.to_dict(), sort_keys=True), self.recipe.intervals
        residuals = intervals.digest if isinstance(intervals, ScaledIntervals) else ""
        content = f"{recipe}{weights_digest(self.network)}{residuals}"
        return hashlib.sha256(content.encode()).hexdigest()

    def panel(self, bars: pd.DataFrame, last: date) -> Panel:
        """Build the feature panel from the first session of history to `last`.

        Adjustment factors come from the bars if these reach the as-of session of the recipe, so
        that corrected corporate actions and a later first bar do not shift price levels. Otherwise
        they come from the recipe.
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

    def first_session(self, session: date) -> date:  # noqa: ARG002
        """Return the first session whose bars a forecast as of `session` depends on."""
        return self.recipe.first_session

    def forecast(
        self, bars: pd.DataFrame, sessions: Sequence[date], panel: Panel | None = None
    ) -> pd.DataFrame:
        """Forecast 1 to H sessions ahead as of each of `sessions`, per ticker.

        Features are causal, so forecasts of many sessions equal those made one session at a time
        without later bars.

        Parameters
        ----------
        bars : DataFrame
            Bars as traded, from the first session of history to the last of `sessions`.
        sessions : sequence of date
            As-of sessions, ascending.
        panel : Panel, optional
            Result of :meth:`panel` for these bars and the last of `sessions`, to save time.

        Returns
        -------
        DataFrame
            ``FORECAST_COLUMNS``, ordered by as-of session, ticker and horizon. ``horizon`` is the
            number of sessions from the as-of session to the target, ``predicted_return`` the log
            return over all of them. Prices are in the shares of the as-of session, bounds at least
            0. ``intervals`` is JSON with the bounds of each coverage, ascending; the other columns
            have those of the last. A ticker without a usable window has no row, and neither has one
            with a pooled target scaler if closes are forecast.
        """
        recipe = self.recipe
        panel = self.panel(bars, sessions[-1]) if panel is None else panel
        ends = self._ends(panel, sessions)
        ahead, distances = self._with_bounds(bars, panel, ends)
        middle, *bounds = (
            self._ratio(ahead + shift, panel.close[ends])
            for shift in (np.zeros(1), *(side for pair in distances for side in pair))
        )
        levels = zip(recipe.intervals.coverages, bounds[::2], bounds[1::2], strict=True)
        forecastable = self._forecastable(panel, ends)
        return forecast_frame(bars, sessions, recipe.tickers, forecastable, middle, list(levels))

    def moves(
        self, panel: Panel, sessions: Sequence[date]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the forecast moves, not shrunk, and the actual ones, both (B, H, N).

        They are differences from the forecast of no change as of each of `sessions`, in scaled
        target units; NaN where there is no forecast, or no outcome in the panel.
        """
        ends = self._ends(panel, sessions)
        forecast = np.where(
            self._forecastable(panel, ends)[:, np.newaxis],
            self._ahead(panel, ends) - self._no_change(panel, ends),
            np.nan,
        )
        return forecast, self._outcomes(panel, ends) - self._no_change(panel, ends)

    def scaled_volatility(
        self, bars: pd.DataFrame, panel: Panel, scale: Scale, averaging: Averaging = AVERAGING
    ) -> FloatArray:
        """Return the volatility of each session in scaled target units, (T, N).

        It is the scale by which residuals are divided; 1 where it is constant.
        """
        if scale == "constant":
            return np.ones_like(panel.close)
        ranges = log_ranges(bars, panel.sessions, panel.tickers)
        unit = volatility(scale, panel.close, ranges, averaging)
        unit /= self.recipe.target_scaler.scale[:, 0]
        return unit if self.recipe.target == "log_return" else unit * panel.close

    def continued_intervals(self, bars: pd.DataFrame) -> Intervals:
        """Return the intervals with the residuals that are known as of the as-of session.

        A refit starts with them: its own forecasts of earlier sessions have learnt their outcomes.
        `bars` are as traded, from the first session of history on; later ones are not read.
        """
        recipe, intervals = self.recipe, self.recipe.intervals
        if isinstance(intervals, FixedIntervals) or intervals.own_residuals_from is None:
            return intervals  # of an earlier version
        panel = self.panel(bars, recipe.as_of)
        first = panel.sessions.searchsorted(pd.Timestamp(intervals.own_residuals_from))
        own = np.arange(first, len(panel.sessions) - 1)
        scale = self.scaled_volatility(bars, panel, intervals.scale, intervals.averaging)
        residuals = self._residuals(panel, own, self._shrunk(panel, own), scale)
        return intervals.continued(residuals, recipe.as_of)

    def drift(self, panel: Panel, sessions: Sequence[date]) -> pd.DataFrame:
        """Compute the drift of recent scaled inputs from the training distribution.

        Recent inputs are those of the last ``reference.sessions`` sessions up to the as-of session,
        all tickers pooled.

        Parameters
        ----------
        panel : Panel
            Result of :meth:`panel` for the last of `sessions` or a later one.
        sessions : sequence of date
            As-of sessions, ascending.

        Returns
        -------
        DataFrame
            ``as_of_session``, ``feature``, ``psi`` (population stability index), ``rows`` (number
            of valid rows) and ``baseline_p95`` (95th percentile of the index in the train segment),
            ordered by as-of session and feature. A session without valid rows is left out.
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
        """Return the positions of `sessions` in the panel, each the end of a complete window."""
        ends = panel.sessions.get_indexer(pd.DatetimeIndex(list(sessions)))
        window = self.recipe.network.window
        for session in np.array(sessions)[ends < 0]:
            calendar.require_session(session)
        if (ends < window - 1).any():
            raise StockAssetsError(
                f"{sessions[0]} has fewer than {window} sessions of history "
                f"since {self.recipe.first_session}",
                "Forecast a later session",
            )
        return ends

    def _with_bounds(
        self, bars: pd.DataFrame, panel: Panel, ends: NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        """Forecast as of `ends`; return the bounds of each coverage beside the forecasts.

        Both are in scaled target units; the forecasts are shrunk and (B, H, N), the bounds are
        distances from them, lower and upper per coverage, (L, 2) and a shape that broadcasts. The
        newest own residuals known as of each session are computed from the panel.
        """
        recipe = self.recipe
        intervals, horizon = recipe.intervals, recipe.network.horizon
        if isinstance(intervals, FixedIntervals):
            widths = np.array(intervals.widths)[:, np.newaxis]
            return self._shrunk(panel, ends), np.array([[-widths, widths]])
        begin = pd.Timestamp(intervals.own_residuals_from or recipe.as_of)
        first = max(
            panel.sessions.searchsorted(begin),
            ends[0] + 1 - horizon - intervals.newest_sessions,
        )
        own = np.arange(first, ends[-1])
        every = np.union1d(own, ends)
        forecast = self._shrunk(panel, every)
        scale = self.scaled_volatility(bars, panel, intervals.scale, intervals.averaging)
        residuals = self._residuals(panel, own, forecast[np.searchsorted(every, own)], scale)
        known = ends[:, np.newaxis] - np.arange(horizon) - first
        bounds = intervals.bounds(residuals, np.maximum(known, 0))
        distances = bounds[..., np.newaxis] * scale[ends, np.newaxis]
        return forecast[np.searchsorted(every, ends)], distances

    def _residuals(
        self, panel: Panel, ends: NDArray[np.intp], forecast: FloatArray, scale: FloatArray
    ) -> NDArray[np.float32]:
        """Return actual minus forecast over the scale as of `ends`, (B, H, N); NaN for none."""
        errors = self._outcomes(panel, ends) - forecast
        errors = np.where(self._forecastable(panel, ends)[:, np.newaxis], errors, np.nan)
        return (errors / scale[ends, np.newaxis]).astype(np.float32)

    def _forecastable(self, panel: Panel, ends: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Find the tickers with a usable window, (B, N); closes need an own target scaler too."""
        usable = usable_windows(panel.valid, ends, self.recipe.network.window)
        if self.recipe.target == "close":
            usable &= ~self.recipe.target_scaler.pooled
        return usable

    def _shrunk(self, panel: Panel, ends: NDArray[np.intp]) -> FloatArray:
        """Forecast with shrunk moves, (B, H, N), in scaled target units."""
        ahead, rest = self._ahead(panel, ends), 1 - np.array(self.recipe.shrinkage)
        # In this form a factor of 1 changes no bit.
        return ahead + rest[:, np.newaxis] * (self._no_change(panel, ends) - ahead)

    def _ahead(self, panel: Panel, ends: NDArray[np.intp]) -> FloatArray:
        return cumulate_steps(self._scaled(panel, ends), self.recipe.target)

    def _no_change(self, panel: Panel, ends: NDArray[np.intp]) -> FloatArray:
        """Return the forecast of no change, in scaled target units and of a shape (B, 1, N)."""
        if self.recipe.target == "log_return":
            return np.zeros((len(ends), 1, len(panel.tickers)))
        return self._to_scaled(panel.close[ends, np.newaxis])

    def _outcomes(self, panel: Panel, ends: NDArray[np.intp]) -> FloatArray:
        """Return what was forecast as of `ends`, (B, H, N), NaN where the panel lacks it."""
        recipe = self.recipe
        return self._to_scaled(
            later_targets(panel.close, ends, recipe.network.horizon, recipe.target)
        )

    def _to_scaled(self, target: FloatArray) -> FloatArray:
        scaler = self.recipe.target_scaler
        return np.asarray((target - scaler.centre[:, 0]) / scaler.scale[:, 0])

    def _scaled(self, panel: Panel, ends: NDArray[np.intp]) -> NDArray[np.float64]:
        """Forecast the windows that end at `ends`, shape (B, H, N), in scaled units.

        The last bits of a matrix product depend on the number of rows and on a row's position,
        though not on the other rows. So on a CPU every session has a fixed position in a batch of
        fixed size, whichever sessions are requested. Other devices are used while a model is
        trained only, and have all sessions at once, as far as their memory allows.
        """
        recipe, window = self.recipe, self.recipe.network.window
        values, valid = torch.from_numpy(panel.values), torch.from_numpy(panel.valid)
        windows = Windows.from_panel(values, valid, recipe.feature_scaler, window)
        if next(self.network.parameters()).device.type != "cpu":
            return forecast_scaled(self.network, windows, ends).astype(np.float64)
        outputs = np.empty((len(ends), recipe.network.horizon, len(panel.tickers)))
        for batch in np.unique(ends // FORECAST_BATCH):
            places = np.arange(batch * FORECAST_BATCH, (batch + 1) * FORECAST_BATCH)
            filled = np.clip(places, window - 1, len(values) - 1)
            forecast = forecast_scaled(self.network, windows, filled)
            wanted = ends // FORECAST_BATCH == batch
            outputs[wanted] = forecast[ends[wanted] % FORECAST_BATCH]
        return outputs

    def _ratio(
        self, scaled: NDArray[np.float64], close: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Convert scaled forecasts (B, H, N) to ratios of forecast price to as-of close (B, N)."""
        target = self.recipe.target_scaler.inverse(scaled[..., None])[..., 0]
        if self.recipe.target == "log_return":
            return np.exp(target)
        return np.asarray(target / close[:, np.newaxis])
