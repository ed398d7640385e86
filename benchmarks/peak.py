"""Memory of a process that trains one candidate, as JSON: ``python -m benchmarks.peak``.

It does the work of a tuning worker and of ``candidate_model``: map the panel, fit the scalers,
train, calibrate the intervals.
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
from stock_assets.models.data import fold_data
from stock_assets.models.tuning import Hyperparameters


def main() -> None:
    """Train on a panel and print the memory of the libraries and the peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("panel", type=Path)
    parser.add_argument("architecture")
    parser.add_argument("window", type=int)
    parser.add_argument("windows", type=int, help="windows to train on, spread over all years")
    options = parser.parse_args()
    # PyTorch loads its compiler with the first optimiser.
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    libraries = peak_megabytes()
    dataset = Dataset(window=options.window)
    (data,) = fold_data(options.panel, dataset, WalkForward())
    chosen = np.linspace(data.train[0], data.train[-1], options.windows).astype(np.int64)
    best = Hyperparameters(options.architecture, 64, 2, 0.0, 1e-3, 64)
    training = Training(epochs=1, threads=2)
    train_candidate(replace(data, train=chosen), best, training)
    print(json.dumps({"libraries_megabytes": libraries, "peak_megabytes": peak_megabytes()}))


if __name__ == "__main__":
    main()
