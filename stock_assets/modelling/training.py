"""Fitting a network to one training stretch, and forecasting with it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stock_assets.config import Loss
from stock_assets.errors import StockAssetsError
from stock_assets.features.windows import gather, usable
from stock_assets.modelling.networks import Network, pick_device
from stock_assets.progress import bar

LOSSES: dict[Loss, Callable[..., Tensor]] = {
    "huber": functional.huber_loss,
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
}

# Windows that pass through a network at once where no gradient limits the choice.
_FORECAST_BATCH = 256


@dataclass(frozen=True)
class TrainingData:
    """A scaled panel, on the CPU, and the windows of it to learn from.

    Attributes
    ----------
    values : Tensor (T, N, F), float32
        Scaled features, zero where invalid.
    valid : Tensor (T, N), bool
    target : Tensor (T, N), float32
        Scaled label of the window that ends at each session; NaN where it is missing.
    window : int
        Sessions in a window.
    train, validation : ndarray of int64
        Positions of the sessions at which windows end.
    """

    values: Tensor
    valid: Tensor
    target: Tensor
    window: int
    train: NDArray[np.int64]
    validation: NDArray[np.int64]


@dataclass(frozen=True)
class FitSettings:
    """How to fit.

    Attributes
    ----------
    epochs : int
        Most passes over the training windows.
    patience : int
        Epochs without a better validation loss that end the fit.
    learning_rate : float
        At the start; halved each time the validation loss has stood still for half the patience.
    batch_size : int
        Windows per step.
    loss : {"huber", "mse", "mae"}
        On the scaled target.
    weight_decay : float
        Of AdamW.
    gradient_clip : float
        Largest norm of the gradient.
    threads : int
        CPU threads.
    seed : int
        Of dropout and the order of windows.
    """

    epochs: int
    patience: int
    learning_rate: float
    batch_size: int
    loss: Loss
    weight_decay: float
    gradient_clip: float
    threads: int
    seed: int


@dataclass(frozen=True)
class EpochScore:
    """Losses of one epoch, counted from 1, each a mean over its (window, ticker) pairs."""

    epoch: int
    train_loss: float
    validation_loss: float
    learning_rate: float


@dataclass(frozen=True)
class Fit:
    """What happened during a fit; the network holds the weights of the best epoch."""

    history: tuple[EpochScore, ...]
    best_epoch: int

    @property
    def best(self) -> EpochScore:
        """The epoch with the lowest validation loss, the first of equals."""
        return self.history[self.best_epoch - 1]


def fit(
    network: Network,
    data: TrainingData,
    settings: FitSettings,
    on_epoch: Callable[[EpochScore], None] | None = None,
) -> Fit:
    """Fit a network in place and leave it with the weights of its best epoch.

    AdamW (Loshchilov and Hutter 2019) on shuffled windows, with clipped gradients, a learning rate
    halved on plateaus, and early stopping on the validation stretch. A loss counts every usable
    (window, ticker) pair once, so it does not depend on the batch size. On a CPU, equal weights,
    data and settings give equal weights, bit for bit; PyTorch's own random state is left as it was.

    Parameters
    ----------
    network : Network
        Moved to the device of `pick_device`, where it stays.
    data : TrainingData
    settings : FitSettings
    on_epoch : callable, optional
        Told each epoch's score; what it raises ends the fit.

    Raises
    ------
    StockAssetsError
        A stretch holds no usable window, or no validation loss was finite.
    """
    device = pick_device()
    network.to(device)
    train = _examples(network, data, data.train, "training", device)
    validation = _examples(network, data, data.validation, "validation", device)
    optimiser, schedule = _optimiser(network, settings)
    history: list[EpochScore] = []
    best_epoch, best_loss, best_weights = 0, math.inf, network.state_dict()
    cuda = [device] if device.type == "cuda" else []
    with _cpu_threads(settings.threads), torch.random.fork_rng(devices=cuda):
        torch.manual_seed(settings.seed)
        epochs = bar(range(1, settings.epochs + 1), "epochs")
        for epoch in epochs:
            rate = optimiser.param_groups[0]["lr"]
            train_loss = _train_epoch(network, train, optimiser, settings)
            loss = _mean_loss(network, validation, LOSSES[settings.loss])
            history.append(EpochScore(epoch, train_loss, loss, rate))
            epochs.set_postfix(validation=f"{loss:.4f}")
            if on_epoch is not None:
                on_epoch(history[-1])
            if loss < best_loss:
                best_epoch, best_loss = epoch, loss
                best_weights = {k: v.detach().clone() for k, v in network.state_dict().items()}
            if epoch - best_epoch >= settings.patience:
                break
            schedule.step(loss)
    if best_epoch == 0:
        raise StockAssetsError(
            f"training diverged: no validation loss in {len(history)} epochs was finite",
            "Lower the learning rate, or look for extreme values among the scaled features",
        )
    network.load_state_dict(best_weights)
    return Fit(tuple(history), best_epoch)


@torch.no_grad()
def forecast_scaled(
    network: Network, values: Tensor, valid: Tensor, ends: NDArray[np.int64], window: int
) -> NDArray[np.float32]:
    """Forecast the scaled target of the windows that end at ``ends``.

    Parameters
    ----------
    network : Network
        Put into evaluation mode.
    values : Tensor (T, N, F), float32
    valid : Tensor (T, N), bool
    ends : ndarray (B,), int64
    window : int

    Returns
    -------
    ndarray (B, horizon, N), float32
        In the order of ``ends``. It means nothing for a ticker that is invalid at its window's end.
    """
    network.eval()
    device = next(network.parameters()).device
    values, valid = values.to(device), valid.to(device)
    batches = torch.split(torch.as_tensor(ends, device=device), _FORECAST_BATCH)
    forecasts = [network(*_windows(values, valid, batch, window)) for batch in batches]
    return torch.cat(forecasts).cpu().numpy()


def weights_digest(network: Network) -> str:
    """SHA-256, in hexadecimal, of the names, shapes, types and bytes of all weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Examples:
    """The windows of one stretch with at least one label that counts, on the network's device."""

    values: Tensor
    valid: Tensor
    window: int
    ends: Tensor
    labels: Tensor
    counted: Tensor


def _examples(
    network: Network,
    data: TrainingData,
    ends: NDArray[np.int64],
    stretch: str,
    device: torch.device,
) -> _Examples:
    good = usable(data.valid.numpy(), data.target.numpy(), ends, data.window)
    steps = np.arange(network.spec.horizon)
    labels = data.target[torch.as_tensor(ends[:, None] + steps)]
    counted = torch.as_tensor(good).unsqueeze(1) & labels.isfinite()
    kept = counted.flatten(1).any(dim=1)
    if not kept.any():
        raise StockAssetsError(
            f"the {stretch} stretch of {len(ends)} sessions holds no usable window",
            "Lengthen it, shorten dataset.window, or look for tickers without prices",
        )
    return _Examples(
        data.values.to(device),
        data.valid.to(device),
        data.window,
        torch.as_tensor(ends)[kept].to(device),
        labels[kept].to(device),
        counted[kept].to(device),
    )


@contextmanager
def _cpu_threads(count: int) -> Iterator[None]:
    """Compute with so many CPU threads, and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _optimiser(
    network: Network, settings: FitSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.ReduceLROnPlateau]:
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=settings.patience // 2
    )
    return optimiser, schedule


def _windows(values: Tensor, valid: Tensor, ends: Tensor, window: int) -> tuple[Tensor, Tensor]:
    return gather(values, ends, window), gather(valid, ends, window)


def _summed_loss(
    network: Network, examples: _Examples, rows: Tensor, loss: Callable[..., Tensor]
) -> tuple[Tensor, int]:
    inputs = _windows(examples.values, examples.valid, examples.ends[rows], examples.window)
    counted = examples.counted[rows]
    forecast, labels = network(*inputs)[counted], examples.labels[rows][counted]
    return loss(forecast, labels, reduction="sum"), len(labels)


def _train_epoch(
    network: Network, examples: _Examples, optimiser: torch.optim.Optimizer, settings: FitSettings
) -> float:
    network.train()
    device = examples.ends.device
    order = torch.randperm(len(examples.ends)).to(device)
    total, pairs = torch.zeros((), device=device), 0
    for rows in torch.split(order, settings.batch_size):
        summed, count = _summed_loss(network, examples, rows, LOSSES[settings.loss])
        optimiser.zero_grad()
        torch.autograd.backward(summed / count)
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimiser.step()
        total, pairs = total + summed.detach(), pairs + count
    return float(total) / pairs


@torch.no_grad()
def _mean_loss(network: Network, examples: _Examples, loss: Callable[..., Tensor]) -> float:
    network.eval()
    every = torch.arange(len(examples.ends), device=examples.ends.device)
    parts = [
        _summed_loss(network, examples, rows, loss) for rows in torch.split(every, _FORECAST_BATCH)
    ]
    return float(sum(summed for summed, _ in parts)) / sum(count for _, count in parts)
