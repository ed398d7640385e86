"""Version 0: the forecast of no change, with calibrated intervals.

It is a rule with settings and no trained model. A forecast depends on the bars of a fixed number of
sessions up to its as-of session and on the settings alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.config import Params, Rename, Scale
from stock_assets.core.fingerprints import plain_digest
from stock_assets.evaluation.intervals import conformal_quantiles, conformal_rank
from stock_assets.features.volatility import AVERAGING, log_ranges, volatility
from stock_assets.market import calendar
from stock_assets.market.adjustment import price_factor
from stock_assets.models.forecast_frame import FloatArray, forecast_frame
from stock_assets.models.intervals import NEWEST_SESSIONS

_RULE = "no change; symmetric conformal intervals of the newest scaled residuals"
_WARM_UP_SESSIONS = 126
"""Sessions before the first residual, from which the first volatility is estimated."""


@dataclass(frozen=True)
class Persistence:
    """The forecast of no change, 1 to H sessions ahead.

    Attributes
    ----------
    tickers : tuple of str
        The universe. Residuals are pooled over it.
    horizon : int
        H.
    coverages : tuple of float
        Nominal coverages of the intervals, ascending.
    scale : Scale
        The volatility that their widths follow.
    """

    tickers: tuple[str, ...]
    horizon: int
    coverages: tuple[float, ...]
    scale: Scale

    @classmethod
    def of(cls, params: Params) -> Persistence:
        """Return the forecast that parameters define; the scale ``auto`` is ``combined``."""
        return cls.of_recorded(params.model_dump(mode="json"))

    @classmethod
    def of_recorded(cls, params: Mapping[str, Any]) -> Persistence:
        """Return the forecast that recorded parameters define, also those of another version."""
        forecast = params["forecast"]
        return cls(
            tickers=tuple(params["prices"]["tickers"]),
            horizon=params["dataset"]["prediction_length"],
            coverages=tuple(forecast["coverages"]),
            scale="combined" if forecast["scale"] == "auto" else forecast["scale"],
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings as plain values; the universe belongs to the prices."""
        return {
            "horizon": self.horizon,
            "coverages": list(self.coverages),
            "scale": self.scale,
            "newest_sessions": NEWEST_SESSIONS,
            "warm_up_sessions": _WARM_UP_SESSIONS,
            "averaging": asdict(AVERAGING),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the rule and the settings."""
        return plain_digest({"rule": _RULE} | self.settings())

    @property
    def sessions(self) -> int:
        """Number of sessions up to the as-of session whose bars a forecast depends on."""
        return _WARM_UP_SESSIONS + NEWEST_SESSIONS + self.horizon

    def first_session(self, session: date) -> date:
        """Return the first session whose bars a forecast as of `session` depends on."""
        return calendar.previous_session(session, self.sessions - 1)

    def rename_tickers(self, renames: Sequence[Rename], as_of: date) -> Persistence:
        """Replace tickers by the symbols that they have had since, in unchanged order."""
        tickers = self.tickers
        for rename in sorted(renames, key=lambda rename: rename.first_session):
            if as_of < rename.first_session and rename.new not in tickers:
                tickers = tuple(rename.new if name == rename.old else name for name in tickers)
        return Persistence(tickers, self.horizon, self.coverages, self.scale)

    def forecast(self, bars: pd.DataFrame, sessions: Sequence[date]) -> pd.DataFrame:
        """Forecast as of each of `sessions`, per ticker with a bar of it.

        Parameters
        ----------
        bars : DataFrame
            As traded, from :meth:`first_session` of the first of `sessions` on.
        sessions : sequence of date
            As-of sessions, ascending.

        Returns
        -------
        DataFrame
            As from :meth:`stock_assets.models.bundle.Bundle.forecast`. A session is left out if
            the residuals known as of it are too few for an interval.
        """
        own = bars[bars["ticker"].isin(self.tickers)].reset_index(drop=True)
        found = [self._as_of(own, session) for session in sessions]
        forecastable = np.array([can for can, _ in found])
        widths = np.array([width for _, width in found])  # (B, L, H, N)
        bounds = [
            (coverage, np.exp(-widths[:, level]), np.exp(widths[:, level]))
            for level, coverage in enumerate(self.coverages)
        ]
        no_change = np.ones_like(widths[:, 0])
        return forecast_frame(own, sessions, self.tickers, forecastable, no_change, bounds)

    def _as_of(self, bars: pd.DataFrame, session: date) -> tuple[NDArray[np.bool_], FloatArray]:
        """Return which tickers have a forecast, (N,), and half widths of log returns, (L, H, N)."""
        days = pd.DatetimeIndex(calendar.sessions(self.first_session(session), session))
        known = bars[bars["session"].between(days[0], days[-1])].reset_index(drop=True)
        adjusted = known.assign(close=known["close"] * price_factor(known, "adjusted"))
        closes = adjusted.pivot(index="session", columns="ticker", values="close")
        close = np.ascontiguousarray(closes.reindex(index=days, columns=list(self.tickers)))
        unit = volatility(self.scale, close, log_ranges(known, days, self.tickers))
        widths, counts = [], []
        for ahead in range(1, self.horizon + 1):
            moves = np.log(close[ahead:] / close[:-ahead])
            newest = (moves / unit[:-ahead])[-NEWEST_SESSIONS:]
            widths.append(conformal_quantiles(newest, self.coverages))
            counts.append(int(np.isfinite(newest).sum()))
        enough = all(conformal_rank(count, self.coverages[-1]) <= count for count in counts)
        return np.isfinite(close[-1]) & enough, np.array(widths).T[..., np.newaxis] * unit[-1]
