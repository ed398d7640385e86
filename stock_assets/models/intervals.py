"""The intervals of a model: of fixed width, or following volatility and the newest residuals."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stock_assets.config import Forecast, Scale
from stock_assets.evaluation.intervals import conformal_bounds
from stock_assets.features.volatility import AVERAGING, Averaging

NEWEST_SESSIONS = 126
"""Sessions whose residuals decide a width of new models."""


@dataclass(frozen=True)
class FixedIntervals:
    """Intervals of one width per horizon, of models trained by earlier versions.

    Attributes
    ----------
    widths : tuple of float
        Half the width for 1 to H sessions ahead, in scaled target units.
    coverage : float
        Nominal coverage.
    """

    widths: tuple[float, ...]
    coverage: float

    @property
    def coverages(self) -> tuple[float, ...]:
        """The nominal coverages, ascending."""
        return (self.coverage,)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the file of a bundle."""
        return {"interval_widths": self.widths, "coverage": self.coverage}


@dataclass(frozen=True, eq=False)
class ScaledIntervals:
    """Intervals whose bounds are conformal quantiles of scaled residuals, times the scale.

    The residuals of the newest sessions known as of a session count, pooled over the tickers: those
    of calibration first, then those of the model's own forecasts.

    Attributes
    ----------
    scale : Scale
        The volatility by which residuals are divided.
    coverages : tuple of float
        Nominal coverages, ascending.
    residuals : (S, H, N) float32
        Scaled residuals (actual minus forecast) of the calibration sessions, oldest first; NaN
        where there is none. Those of a refit end with the candidate's of the test segment.
    asymmetric : bool
        Whether each bound is a quantile of the signed residuals; otherwise both are the quantile of
        the absolute ones.
    newest_sessions : int
        Sessions whose residuals decide a width.
    averaging : Averaging
        Of the volatility.
    own_residuals_from : date, optional
        First as-of session of the model's own residuals, the one after those of `residuals`. None
        if an earlier version trained the model: they begin with its as-of session.
    """

    scale: Scale
    coverages: tuple[float, ...]
    residuals: NDArray[np.float32]
    asymmetric: bool = False
    newest_sessions: int = NEWEST_SESSIONS
    averaging: Averaging = AVERAGING
    own_residuals_from: date | None = None

    @classmethod
    def uncalibrated(
        cls, coverages: Sequence[float], horizon: int, tickers: int
    ) -> ScaledIntervals:
        """Return intervals without residuals, whose bounds are NaN."""
        none = np.empty((0, horizon, tickers), dtype=np.float32)
        return cls("constant", tuple(coverages), none)

    @property
    def coverage(self) -> float:
        """The coverage that tables show."""
        return self.coverages[-1]

    def bounds(self, own: NDArray[np.float32], known: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return lower and upper bounds in units of the scale, (L, 2, B, H) for L coverages.

        They are distances from the forecast.

        Parameters
        ----------
        own : (S, H, N) float32
            Scaled residuals of consecutive own forecasts, oldest first.
        known : (B, H) int
            Number of them known as of each session.
        """
        found = np.empty((len(self.coverages), 2, *known.shape))
        for step in range(known.shape[1]):
            rows = np.concatenate([self.residuals[:, step], own[:, step]])
            counts, places = np.unique(known[:, step], return_inverse=True)
            stops = len(self.residuals) + counts
            bounds = [
                conformal_bounds(
                    rows[max(stop - self.newest_sessions, 0) : stop],
                    self.coverages,
                    asymmetric=self.asymmetric,
                )
                for stop in stops
            ]
            found[..., step] = np.array(bounds).transpose(1, 2, 0)[..., places]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the file of a bundle; the residuals are stored apart."""
        plain: dict[str, Any] = {"scale": self.scale, "coverages": list(self.coverages)}
        # Earlier versions do not have the other fields.
        if self.asymmetric:
            plain["asymmetric"] = True
        if self.own_residuals_from is not None:
            plain |= {
                "newest_sessions": self.newest_sessions,
                "averaging": asdict(self.averaging),
                "own_residuals_from": self.own_residuals_from.isoformat(),
            }
        return {"intervals": plain}

    def continued(self, own: NDArray[np.float32], until: date) -> ScaledIntervals:
        """Return the intervals with further residuals, after which own ones begin at `until`."""
        every = np.concatenate([self.residuals, own])[-self.newest_sessions :]
        return replace(self, residuals=every, own_residuals_from=until)

    def parameters(self) -> Forecast:
        """Return the parameters with which the same sessions give these intervals again."""
        return Forecast(coverages=list(self.coverages), scale=self.scale)

    @property
    def digest(self) -> str:
        """SHA-256 of the residuals."""
        kind = f"{self.residuals.shape} {self.residuals.dtype}"
        return hashlib.sha256(kind.encode() + self.residuals.tobytes()).hexdigest()


Intervals = FixedIntervals | ScaledIntervals


def intervals_from(plain: dict[str, Any], residuals: NDArray[np.float32] | None) -> Intervals:
    """Restore intervals; their keys are removed from `plain`.

    Raises
    ------
    KeyError, TypeError
        Keys or residuals are missing.
    """
    if "intervals" not in plain:
        return FixedIntervals(tuple(plain.pop("interval_widths")), plain.pop("coverage"))
    if residuals is None:
        raise TypeError("the residuals are missing")
    fields = plain.pop("intervals")
    if "own_residuals_from" not in fields:
        later = {}
    else:
        later = {
            "newest_sessions": fields["newest_sessions"],
            "averaging": Averaging(**fields["averaging"]),
            "own_residuals_from": date.fromisoformat(fields["own_residuals_from"]),
        }
    return ScaledIntervals(
        fields["scale"],
        tuple(fields["coverages"]),
        residuals,
        asymmetric=fields.get("asymmetric", False),
        **later,
    )
