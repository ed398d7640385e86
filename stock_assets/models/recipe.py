"""The recipe of a model: everything besides its weights that turns bars into forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stock_assets.config import Basis, Rename, Target
from stock_assets.evaluation.drift import Reference
from stock_assets.features.scaling import Scaler
from stock_assets.market.adjustment import AdjustmentFactors
from stock_assets.models.intervals import Intervals, intervals_from
from stock_assets.models.networks import NetworkSpec

NO_SHRINKAGE = (1.0,)
"""The factor of a forecast that is not shrunk, for one session ahead."""


@dataclass(frozen=True)
class Recipe:
    """Everything besides its weights that a model needs to turn bars into forecasts.

    Attributes
    ----------
    dataset_run_id : str
        The dataset it was trained on.
    as_of, first_session : date
        As-of session of the dataset, and first session of its history. Recursive features are
        computed from there in training and in serving.
    tickers, features : tuple of str
        The axes N and F of the panel.
    basis : str
        Price basis of the features.
    adjustment_factors : dict of str to AdjustmentFactors
        Per ticker, at the as-of session in the bars of the dataset. They bring later bars to the
        shares of the bars that the scalers were fitted to.
    target : str
        Label of each session: ``log_return`` or ``close``.
    network : NetworkSpec
        With the horizon H.
    feature_scaler, target_scaler : Scaler
        Fitted to training sessions; shapes (N, F) and (N, 1).
    reference : Reference
        Distribution of the scaled features in these sessions, all tickers pooled.
    intervals : FixedIntervals or ScaledIntervals
    shrinkage : tuple of float
        Factors in [0, 1] of the forecast moves over 1 to H sessions.
    custom_code : dict of str to str
        SHA-256 of the code of a custom network and of each custom feature, by their names.
    newest_label : date or None
        The newest session whose price is a label that the weights were trained on; None in models
        of earlier versions.
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
    intervals: Intervals
    shrinkage: tuple[float, ...]
    custom_code: dict[str, str] = field(default_factory=dict)
    newest_label: date | None = None

    @property
    def code_names(self) -> tuple[str, ...]:
        """Names of the network and the features, which may be custom ones."""
        return (self.network.architecture, *self.features)

    @property
    def is_shrunk(self) -> bool:
        """Whether any forecast move is shrunk."""
        return set(self.shrinkage) != {1.0}

    def unshrunk(self) -> Recipe:
        """Return the recipe without shrinkage, its intervals unchanged."""
        return replace(self, shrinkage=NO_SHRINKAGE * self.network.horizon)

    def rename_tickers(self, renames: Sequence[Rename]) -> Recipe:
        """Replace tickers by their current symbols, in unchanged order.

        Only renames after the as-of session apply: a later dataset has the new symbols, and an old
        symbol may have been reassigned. A ticker keeps its symbol if the dataset has the new symbol
        too.
        """
        current = {ticker: ticker for ticker in self.tickers}
        for rename in sorted(renames, key=lambda rename: rename.first_session):
            if self.as_of < rename.first_session and rename.new not in current.values():
                current = {
                    ticker: rename.new if name == rename.old else name
                    for ticker, name in current.items()
                }
        return replace(
            self,
            tickers=tuple(current.values()),
            adjustment_factors={
                current[ticker]: factors for ticker, factors in self.adjustment_factors.items()
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values for JSON, without loss but for residuals.

        The keys are a file format: the digest of every registered version covers them, so they
        keep their names if fields are renamed.
        """
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        factors = plain.pop("adjustment_factors")
        del plain["intervals"]
        if not self.is_shrunk:
            del plain["shrinkage"]  # which earlier versions do not have
        if not self.custom_code:
            del plain["custom_code"]  # as above
        label = plain.pop("newest_label")
        if label is not None:
            plain["newest_label"] = label.isoformat()
        return (
            plain
            | self.intervals.to_dict()
            | {
                "as_of": self.as_of.isoformat(),
                "first_session": self.first_session.isoformat(),
                "anchors": {ticker: asdict(own) for ticker, own in factors.items()},
                "network": self.network.to_dict(),
                "feature_scaler": self.feature_scaler.to_dict(),
                "target_scaler": self.target_scaler.to_dict(),
                "reference": self.reference.to_dict(),
            }
        )

    @classmethod
    def from_dict(
        cls, plain: dict[str, Any], residuals: NDArray[np.float32] | None = None
    ) -> Recipe:
        """Restore a recipe from :meth:`to_dict` and the residuals of its intervals."""
        fields = dict(plain)
        intervals = intervals_from(fields, residuals)
        label = fields.get("newest_label")
        factors, network = fields.pop("anchors"), NetworkSpec(**fields["network"])
        return cls(
            **fields
            | {
                "as_of": date.fromisoformat(fields["as_of"]),
                "first_session": date.fromisoformat(fields["first_session"]),
                "tickers": tuple(fields["tickers"]),
                "features": tuple(fields["features"]),
                "adjustment_factors": {
                    ticker: AdjustmentFactors(**values) for ticker, values in factors.items()
                },
                "network": network,
                "feature_scaler": Scaler.from_dict(fields["feature_scaler"]),
                "target_scaler": Scaler.from_dict(fields["target_scaler"]),
                "reference": Reference.from_dict(fields["reference"]),
                "intervals": intervals,
                "newest_label": label and date.fromisoformat(label),
                "shrinkage": tuple(fields.get("shrinkage", NO_SHRINKAGE * network.horizon)),
            }
        )
