"""The recipe of a model: everything besides its weights that turns bars into forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

from stock_assets.config import Basis, Rename, Target
from stock_assets.evaluation.drift import Reference
from stock_assets.features.scaling import Scaler
from stock_assets.market.adjustment import AdjustmentFactors
from stock_assets.models.networks import NetworkSpec


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
    interval_widths : tuple of float
        Half the width of the prediction interval for 1 to H sessions ahead, in scaled target units.
    coverage : float
        Nominal coverage of the intervals.
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
        """Return the recipe as plain values for JSON, without loss.

        The keys are a file format: the digest of every registered version covers them, so they
        keep their names if fields are renamed.
        """
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        factors = plain.pop("adjustment_factors")
        return plain | {
            "as_of": self.as_of.isoformat(),
            "first_session": self.first_session.isoformat(),
            "anchors": {ticker: asdict(own) for ticker, own in factors.items()},
            "network": asdict(self.network),
            "feature_scaler": self.feature_scaler.to_dict(),
            "target_scaler": self.target_scaler.to_dict(),
            "reference": self.reference.to_dict(),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Recipe:
        """Restore a recipe from :meth:`to_dict`."""
        fields = dict(plain)
        factors = fields.pop("anchors")
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
                "network": NetworkSpec(**fields["network"]),
                "feature_scaler": Scaler.from_dict(fields["feature_scaler"]),
                "target_scaler": Scaler.from_dict(fields["target_scaler"]),
                "reference": Reference.from_dict(fields["reference"]),
                "interval_widths": tuple(fields["interval_widths"]),
            }
        )
