"""Training and tuning at the size of a market, printed as JSON: ``python -m benchmarks.training``.

Everything is made up. Ratios compare two things measured in turn, in one run.
"""

import json
import multiprocessing
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

from benchmarks.measuring import peak_megabytes, seconds_of
from stock_assets.config import (
    Dataset,
    FloatRange,
    IntegerRange,
    SearchSpace,
    Training,
    Tuning,
    WalkForward,
)
from stock_assets.features.division import fit_scalers
from stock_assets.features.labels import targets
from stock_assets.features.scaling import Scaler
from stock_assets.features.windows import Stretch, Windows
from stock_assets.modelling.data import TrainingData, load_training_data
from stock_assets.modelling.folds import fold_data
from stock_assets.modelling.networks import NetworkSpec, build_network
from stock_assets.modelling.training import FitSettings, fit
from stock_assets.modelling.tuning import tune
from stock_assets.storage.arrays import ArrayStore

WINDOW, WINDOWS, BATCH = 60, 85_500, 800
MARKET = (1259, 505)
TAUGHT = {"lstm": 256, "lstm_attention": 256, "lstm_cross_attention": 128}
"""Windows of the market that each network is shown, from all of its years: a few batches do."""
SESSIONS = {"lstm": 431, "lstm_attention": 431, "lstm_cross_attention": 131}
"""Of the panels whose epochs are compared: enough for an epoch to take seconds."""
MEGABYTE = 2**20
SETTINGS = FitSettings(
    epochs=1,
    patience=1,
    learning_rate=1e-3,
    batch_size=BATCH,
    loss="huber",
    weight_decay=1e-4,
    gradient_clip=1.0,
    plateau_epochs=1,
    plateau_factor=0.5,
    threads=2,
    device="cpu",
    seed=1,
)


def main() -> None:
    """Measure everything; print what was found."""
    with tempfile.TemporaryDirectory(prefix="stock_assets_bench_") as folder:
        # Memory first: the peak of a process counts what its parent held when it was made.
        found = {
            "memory_of_35_features": _memory(Path(folder), 35),
            "memory_of_158_features": _memory(Path(folder), 158),
            "lstm_epoch": _epoch(),
            "from_50_to_500_tickers": _growth(),
            "two_tuning_workers": _workers(Path(folder)),
        }
    print(json.dumps(found))


def panel(sessions: int, tickers: int, features: int) -> dict[str, np.ndarray]:
    """Make up a panel: noise and random walks, of which two values in a hundred are missing."""
    chance = np.random.default_rng(20180207)
    values = chance.standard_normal((sessions, tickers, features), dtype=np.float32)
    moves = 0.01 * chance.standard_normal((sessions, tickers))
    valid = chance.random((sessions, tickers)) >= 0.02
    values[~valid] = np.nan
    return {"values": values, "valid": valid, "close": 100 * np.exp(moves.cumsum(axis=0))}


def division(arrays: dict[str, np.ndarray], window: int) -> tuple[Dataset, tuple[Scaler, Scaler]]:
    """Describe a dataset over a panel, with scalers of its older half."""
    dataset = Dataset(window=window)
    train = Stretch(window - 1, max(window, len(arrays["values"]) // 2))
    labels = targets(arrays["close"], dataset.target)
    return dataset, fit_scalers(arrays["values"], arrays["valid"], labels, train, dataset)


def examples(sessions: int, tickers: int, features: int, window: int) -> TrainingData:
    """Lay out a panel in memory; all windows but the last two teach."""
    arrays = panel(sessions, tickers, features)
    dataset, (scaler, labels) = division(arrays, window)
    values, valid = torch.from_numpy(arrays["values"]), torch.from_numpy(arrays["valid"])
    target = labels.transform(targets(arrays["close"], dataset.target)[..., np.newaxis])
    ends = np.arange(window - 1, sessions - 1)
    return TrainingData(
        windows=Windows.over(values, valid, scaler, window),
        target=torch.from_numpy(target[..., 0]),
        horizon=1,
        train=ends[:-2],
        validation=ends[-2:],
    )


def network_for(data: TrainingData, architecture: str, hidden: int, layers: int) -> Any:
    """Build a network of the shape of some data."""
    _, tickers, features = data.windows.values.shape
    return build_network(
        NetworkSpec(architecture, tickers, features, data.windows.length, hidden, layers, 0.0)
    )


def _epoch() -> dict[str, float]:
    """Compare an epoch with a loop of bare PyTorch over windows that lie in memory already."""
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
        network = network_for(data, "lstm", 64, 2)
        rows = torch.as_tensor(ends)
        windows, labels = whole.cut(rows)[0].flatten(2).contiguous(), data.target[rows]
        pairs.append(
            (
                seconds_of(partial(fit, network, part, SETTINGS)),
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
    torch.set_num_threads(SETTINGS.threads)
    recurrent, head = nn.LSTM(windows.shape[2], 64, 2, batch_first=True), nn.Linear(64, 1)
    weights = [*recurrent.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=SETTINGS.learning_rate)
    for rows in torch.split(torch.randperm(len(windows)), BATCH):
        states, _ = recurrent(windows[rows])
        loss = nn.functional.huber_loss(head(states[:, -1]), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, SETTINGS.gradient_clip)
        optimiser.step()


def _growth() -> dict[str, Any]:
    """Compare the cost of an epoch over ten times the tickers with ten times the cost."""
    found = {}
    for architecture, sessions in SESSIONS.items():
        few, many = (examples(sessions, tickers, 35, 30) for tickers in (50, 500))
        turns = [
            (_small_batches(few, architecture), _small_batches(many, architecture))
            for _ in range(3)
        ]
        fifty, five_hundred = (min(times) for times in zip(*turns, strict=True))
        found[architecture] = {
            "seconds_50": fifty,
            "seconds_500": five_hundred,
            "over_linear": five_hundred / fifty / 10,
        }
    return found


def _small_batches(data: TrainingData, architecture: str) -> float:
    network = network_for(data, architecture, 64, 2)
    return seconds_of(partial(fit, network, data, replace(SETTINGS, batch_size=32)))


def _memory(folder: Path, features: int) -> dict[str, Any]:
    """Peak memory of a training, in a process of its own per architecture."""
    store, arrays = ArrayStore(str(folder / "market")), panel(*MARKET, features)
    path = store.local_path(store.write_tensors(arrays).location)
    given = division(arrays, WINDOW)
    windows = (MARKET[0] - WINDOW) * WINDOW * MARKET[1] * features * 4 / MEGABYTE
    found: dict[str, Any] = {
        "panel_megabytes": path.stat().st_size / MEGABYTE,
        "materialised_windows_megabytes": windows,
    }
    for architecture, taught in TAUGHT.items():
        ours, theirs = multiprocessing.Pipe()
        job = (theirs, path, given, architecture, taught)
        process = multiprocessing.get_context("spawn").Process(target=_train, args=job)
        process.start()
        before, after = ours.recv()
        process.join()
        found[architecture] = {
            "libraries_megabytes": before,
            "peak_megabytes": after,
            "materialised_over_peak": windows / after,
            "materialised_over_peak_without_libraries": windows / (after - before),
        }
    return found


def _train(link: Any, path: Path, given: Any, architecture: str, taught: int) -> None:
    # Its first optimiser makes PyTorch load its compiler.
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    before = peak_megabytes()
    train, validation = Stretch(WINDOW - 1, 1000), Stretch(1061, MARKET[0] - 2)
    data = load_training_data(path, *given, train, validation)
    data = replace(data, train=np.linspace(*data.train[[0, -1]], taught, dtype=np.int64))
    fit(network_for(data, architecture, 64, 2), data, replace(SETTINGS, batch_size=64))
    link.send((before, peak_megabytes()))


def _workers(folder: Path) -> dict[str, Any]:
    """Compare the same trials, none of them pruned, made by one worker and by two."""
    # Imported here, so that the processes whose memory is measured do without.
    from stock_assets.assets.tuning import OPTUNA_VARIABLE
    from stock_assets.cli.platform import open_platform

    open_platform()
    store = ArrayStore(str(folder / "tuning"))
    path = store.local_path(store.write_tensors(panel(763, 20, 13)).location)
    data = partial(fold_data, path, Dataset(), WalkForward())
    space = SearchSpace(
        architecture=["lstm_cross_attention"],
        hidden_size=IntegerRange(low=32, high=32, step=32),
        layers=IntegerRange(low=1, high=1),
        dropout=FloatRange(low=0.1, high=0.1),
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
