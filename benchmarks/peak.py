"""The memory of a process that trains one candidate, as JSON: ``python -m benchmarks.peak``.

It does what a worker of tuning does, and ``candidate_model``: maps the panel, fits the scalers,
trains, calibrates the intervals.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.measuring import peak_megabytes
from stock_assets.config import Dataset, Training, WalkForward
from stock_assets.models.candidate import train_candidate
from stock_assets.models.folds import fold_data
from stock_assets.models.tuning import Hyperparameters


def main() -> None:
    """Train on a panel; print what the libraries took, and the most that was taken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("panel", type=Path)
    parser.add_argument("architecture")
    parser.add_argument("window", type=int)
    parser.add_argument("windows", type=int, help="to train on, from all years")
    asked = parser.parse_args()
    # Its first optimiser makes PyTorch load its compiler.
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    libraries = peak_megabytes()
    dataset = Dataset(window=asked.window)
    (data,) = fold_data(asked.panel, dataset, WalkForward())
    chosen = np.linspace(*data.train[[0, -1]], asked.windows, dtype=np.int64)
    best = Hyperparameters(asked.architecture, 64, 2, 0.0, 1e-3, 64)
    training = Training(epochs=1, threads=2)
    train_candidate(replace(data, train=chosen), best, training, dataset.target, 0.9)
    print(json.dumps({"libraries_megabytes": libraries, "peak_megabytes": peak_megabytes()}))


if __name__ == "__main__":
    main()
