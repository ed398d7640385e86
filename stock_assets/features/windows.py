"""Cuts scaled windows out of a panel, on demand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stock_assets.features.scaling import Scaler

MINIMUM_VALID_SHARE = 0.9
"""Smallest share of valid sessions in a window that is used for training or forecasting."""


def usable_windows(
    valid: NDArray[np.bool_],
    ends: NDArray[np.int64],
    window: int,
    minimum_share: float = MINIMUM_VALID_SHARE,
) -> NDArray[np.bool_]:
    """Find the (window, ticker) pairs with enough valid sessions to train on or to forecast.

    Parameters
    ----------
    valid : (T, N) bool
        Which rows of the panel hold features.
    ends : (B,) int64
        Window ends, each at least ``window - 1``.
    window : int
        Sessions per window.
    minimum_share : float
        Smallest share of valid sessions.

    Returns
    -------
    (B, N) bool
        The last session is valid, and so is `minimum_share` of the window.

    Raises
    ------
    ValueError
        A window starts before the first row.
    """
    if len(ends) and ends.min() < window - 1:
        raise ValueError(f"the window of {window} that ends at {ends.min()} starts before row 0")
    seen = np.zeros((len(valid) + 1, valid.shape[1]), dtype=np.int64)
    np.cumsum(valid, axis=0, out=seen[1:])
    share = (seen[ends + 1] - seen[ends + 1 - window]) / window
    usable: NDArray[np.bool_] = valid[ends] & (share >= minimum_share)
    return usable


def cut_windows(values: Tensor, ends: Tensor, window: int) -> Tensor:
    """Copy the windows with the given ends out of a panel.

    Parameters
    ----------
    values : (T, ...) tensor
        Features (T, N, F) or validity (T, N). Of a memory-mapped tensor only these rows are read.
    ends : (B,) int64 tensor
        Window ends in any order, on the device of `values`.
    window : int
        Sessions per window.

    Returns
    -------
    (B, window, ...) tensor
        Oldest session first, in the dtype of `values`. Contiguous by session, the layout that
        recurrent networks read.

    Raises
    ------
    IndexError
        A window starts before the first row or ends after the last.
    """
    offsets = torch.arange(1 - window, 1, device=ends.device)
    rows = offsets.unsqueeze(1) + ends
    picked = values.index_select(0, rows.flatten())
    return picked.view(*rows.shape, *values.shape[1:]).transpose(0, 1)


@dataclass(frozen=True)
class Windows:
    """The windows of a panel, cut and scaled on demand.

    Training, tuning, calibration and serving share this code, so that equal rows give equal bits.

    Attributes
    ----------
    values : (T, N, F) float32 tensor
        Unscaled features, possibly memory-mapped.
    valid : (T, N) bool tensor
    centre, scale : (N, F) float32 tensors
        Subtracted from the features, and the divisor of the difference.
    length : int
        Sessions per window, L.
    """

    values: Tensor
    valid: Tensor
    centre: Tensor
    scale: Tensor
    length: int

    @classmethod
    def from_panel(cls, values: Tensor, valid: Tensor, scaler: Scaler, length: int) -> Windows:
        """Combine a panel with the scaler of its features."""
        centre, scale = (
            torch.from_numpy(numbers.astype(np.float32))
            for numbers in (scaler.centre, scaler.scale)
        )
        return cls(values, valid, centre, scale, length)

    def to(self, device: torch.device) -> Windows:
        """Return the windows on a device; nothing is copied if they are there already."""
        values, valid, centre, scale = (
            tensor.to(device) for tensor in (self.values, self.valid, self.centre, self.scale)
        )
        return replace(self, values=values, valid=valid, centre=centre, scale=scale)

    def batch(self, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Cut and scale the windows with the given ends.

        Parameters
        ----------
        ends : (B,) int64 tensor
            Window ends in any order, on the device of the panel.

        Returns
        -------
        (B, L, N, F) float32 and (B, L, N) bool
            Scaled features, oldest session first and undefined where not valid, and validity.

        Raises
        ------
        IndexError
            A window starts before the first row or ends after the last.
        """
        features = cut_windows(self.values, ends, self.length)
        features.sub_(self.centre).div_(self.scale)
        return features, cut_windows(self.valid, ends, self.length)
