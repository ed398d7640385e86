"""Training and tuning on a simulated market, printed as JSON: ``python -m benchmarks.training``."""

import json
import math
import os
import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measuring import run_module, seconds_of
from stock_assets.config import (
    Architecture,
    Dataset,
    FloatRange,
    IntegerRange,
    SearchSpace,
    Training,
    Tuning,
    WalkForward,
)
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import fit_scalers
from stock_assets.features.splits import Segment
from stock_assets.features.windows import Windows
from stock_assets.models.bundle import FORECAST_BATCH
from stock_assets.models.data import TrainingData, fold_data
from stock_assets.models.intervals import NEWEST_SESSIONS
from stock_assets.models.networks import build_network
from stock_assets.models.training import fit, forecast_scaled
from stock_assets.models.tuning import Hyperparameters, tune
from stock_assets.storage.arrays import ArrayStore

WINDOW, WINDOWS, BATCH = 60, 85_500, 800
MARKET = (1259, 505)
TRAINED = {"lstm": 256, "lstm_attention": 256, "lstm_cross_attention": 128}
"""Number of windows that each network trains on in the memory test: a few batches are enough."""
SESSIONS: dict[Architecture, int] = {
    "lstm": 431,
    "lstm_attention": 431,
    "lstm_cross_attention": 131,
}
"""Length of the panels in the growth test: an epoch takes seconds."""
MEGABYTE = 2**20
LEARNING_RATE = 1e-3
TRAINING = Training(epochs=1, threads=2)


def main() -> None:
    """Measure memory, an epoch, growth with tickers, tuning workers, and a forecast."""
    with tempfile.TemporaryDirectory(prefix="stock_assets_bench_") as folder:
        found = {
            "memory_of_35_features": _memory(Path(folder), 35),
            "memory_of_158_features": _memory(Path(folder), 158),
            "lstm_epoch": _epoch(),
            "from_50_to_500_tickers": _growth(),
            "two_tuning_workers": _workers(Path(folder)),
            "forecast_of_one_session": _forecast(),
        }
    print(json.dumps(found))


def panel(sessions: int, tickers: int, features: int) -> dict[str, np.ndarray]:
    """Simulate a panel of noise and random walks in which 2% of the values are missing."""
    chance = np.random.default_rng(20180207)
    values = chance.standard_normal((sessions, tickers, features), dtype=np.float32)
    moves = 0.01 * chance.standard_normal((sessions, tickers))
    valid = chance.random((sessions, tickers)) >= 0.02
    values[~valid] = np.nan
    return {"values": values, "valid": valid, "close": 100 * np.exp(moves.cumsum(axis=0))}


def examples(sessions: int, tickers: int, features: int, window: int) -> TrainingData:
    """Prepare a panel in memory; all windows but the last two are for training."""
    arrays, dataset = panel(sessions, tickers, features), Dataset(window=window)
    values, valid, close = arrays.values()
    train, labels = (
        Segment(window - 1, max(window, sessions // 2)),
        session_labels(close, dataset.target),
    )
    scaler, of_labels = fit_scalers(values, valid, labels, train, dataset)
    target = of_labels.transform(labels[..., np.newaxis])
    ends = np.arange(window - 1, sessions - 1)
    return TrainingData(
        windows=Windows.from_panel(
            torch.from_numpy(values), torch.from_numpy(valid), scaler, window
        ),
        target=torch.from_numpy(target[..., 0]),
        horizon=1,
        train=ends[:-2],
        validation=ends[-2:],
        calibration=ends[:0],
    )


def train(data: TrainingData, architecture: Architecture, batch_size: int) -> float:
    """Train a network of two layers of 64 units for one epoch and return the seconds."""
    chosen = Hyperparameters(architecture, 64, 2, 0.0, LEARNING_RATE, batch_size)
    network = build_network(chosen.network_spec(data))
    return seconds_of(partial(fit, network, data, chosen.fit_settings(TRAINING)))


def _forecast() -> dict[str, float]:
    """Time the passes of one session's forecast, in the batches of a bundle.

    Its intervals need the residuals of the newest sessions, so these are forecast too.
    """
    data = examples(SESSIONS["lstm"], MARKET[1], 35, WINDOW)
    chosen = Hyperparameters("lstm", 64, 2, 0.0, LEARNING_RATE, BATCH)
    network = build_network(chosen.network_spec(data))

    def passes(sessions: int) -> None:
        for ends in np.split(data.train[-sessions:], sessions // FORECAST_BATCH):
            forecast_scaled(network, data.windows, ends)

    whole = FORECAST_BATCH * math.ceil((NEWEST_SESSIONS + 1) / FORECAST_BATCH)
    return {
        "seconds": seconds_of(partial(passes, whole)),
        "without_residuals": seconds_of(partial(passes, FORECAST_BATCH)),
    }


def _epoch() -> dict[str, float]:
    """Compare an epoch with a bare PyTorch loop over windows in memory."""
    data = examples(WINDOWS + WINDOW + 2, 1, 6, WINDOW)
    whole = replace(
        data.windows,
        values=data.windows.values.nan_to_num(),
        valid=torch.ones_like(data.windows.valid),
    )
    data = replace(data, windows=whole, target=data.target.nan_to_num())
    pairs = []
    for ends in np.array_split(data.train[:WINDOWS], 3):
        part = replace(data, train=ends)
        rows = torch.as_tensor(ends)
        windows, labels = whole.batch(rows)[0].flatten(2).contiguous(), data.target[rows]
        pairs.append(
            (
                train(part, "lstm", BATCH),
                seconds_of(partial(_bare_epoch, windows, labels)),
            )
        )
    ours, bare = (sum(times) for times in zip(*pairs, strict=True))
    return {
        "windows": WINDOWS,
        "seconds": ours,
        "bare_pytorch_seconds": bare,
        "ratio": statistics.median(one / other for one, other in pairs),
        "windows_per_second": WINDOWS / ours,
    }


def _bare_epoch(windows: Tensor, labels: Tensor) -> None:
    torch.set_num_threads(TRAINING.threads)
    recurrent, head = nn.LSTM(windows.shape[2], 64, 2, batch_first=True), nn.Linear(64, 1)
    weights = [*recurrent.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE)
    for rows in torch.split(torch.randperm(len(windows)), BATCH):
        states, _ = recurrent(windows[rows])
        loss = nn.functional.huber_loss(head(states[:, -1]), labels[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, TRAINING.gradient_clip)
        optimiser.step()


def _growth() -> dict[str, Any]:
    """Compare an epoch with ten times the tickers with ten times the cost."""
    found: dict[str, Any] = {}
    for architecture, sessions in SESSIONS.items():
        few, many = (examples(sessions, tickers, 35, 30) for tickers in (50, 500))
        turns = [(train(few, architecture, 32), train(many, architecture, 32)) for _ in range(3)]
        fifty, five_hundred = (min(times) for times in zip(*turns, strict=True))
        found[architecture] = {
            "seconds_50": fifty,
            "seconds_500": five_hundred,
            "over_linear": five_hundred / fifty / 10,
        }
    return found


def _memory(folder: Path, features: int) -> dict[str, Any]:
    """Measure the peak memory of training, one process per architecture."""
    store = ArrayStore(str(folder / "market"))
    path = store.local_path(store.write_tensors(panel(*MARKET, features)).location)
    numbers = (MARKET[0] - WINDOW) * WINDOW * MARKET[1] * features
    found: dict[str, Any] = {
        "panel_megabytes": path.stat().st_size / MEGABYTE,
        "float32_windows_megabytes": 4 * numbers / MEGABYTE,
        "float64_windows_megabytes": 8 * numbers / MEGABYTE,
    }
    for architecture, trained in TRAINED.items():
        one = run_module("benchmarks.peak", path, architecture, WINDOW, trained)
        above = one["peak_megabytes"] - one["libraries_megabytes"]
        found[architecture] = one | {
            "float32_windows_over_peak": 4 * numbers / MEGABYTE / one["peak_megabytes"],
            "float64_windows_over_peak": 8 * numbers / MEGABYTE / one["peak_megabytes"],
            "float32_windows_over_peak_without_libraries": 4 * numbers / MEGABYTE / above,
        }
    return found


def _workers(folder: Path) -> dict[str, Any]:
    """Compare one tuning worker with two, on equal trials, so that none is pruned."""
    # Not at the top: the measured processes must not import these.
    from stock_assets.cli.platform import open_platform
    from stock_assets.pipeline.training import OPTUNA_VARIABLE

    open_platform()
    store = ArrayStore(str(folder / "tuning"))
    path = store.local_path(store.write_tensors(panel(763, 20, 13)).location)
    data = partial(fold_data, path, Dataset(), WalkForward())
    space = SearchSpace(
        architecture=["lstm_cross_attention"],
        hidden_size=IntegerRange(low=32, high=32, step=32),
        layers=IntegerRange(low=1, high=1),
        dropout=FloatRange(low=0.1, high=0.1),
        learning_rate=FloatRange(low=1e-3, high=1e-3),
        batch_size=IntegerRange(low=32, high=32),
    )
    tuning = Tuning(trials=8, epochs=20, patience=20, search_space=space)

    def search(workers: int, turn: int) -> float:
        given = tuning.model_copy(update={"workers": workers})
        study, storage = f"{workers} workers, turn {turn}", os.environ[OPTUNA_VARIABLE]
        return seconds_of(partial(tune, data, given, Training(), study, storage))

    turns = [(search(1, turn), search(2, turn)) for turn in range(3)]
    return {
        "trials": tuning.trials,
        "one_seconds": [one for one, _ in turns],
        "two_seconds": [two for _, two in turns],
        "ratio": statistics.median(two / one for one, two in turns),
    }


if __name__ == "__main__":
    main()
