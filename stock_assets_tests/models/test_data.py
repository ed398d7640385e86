"""Training data: a stored panel is mapped as it is, scaled when cut, labelled by its closes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stock_assets.config import Dataset
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import fit_scalers
from stock_assets.features.splits import Segment
from stock_assets.models.data import load_training_data
from stock_assets.storage.arrays import ArrayStore
from stock_assets_tests.models.examples import WINDOW


@pytest.mark.parametrize("target", ["log_return", "close"])
def test_a_stored_panel_is_mapped_scaled_and_labelled(tmp_path: Path, target: str) -> None:
    random = np.random.default_rng(0)
    close = 100 + random.normal(size=(60, 3)).cumsum(axis=0)
    valid = random.random((60, 3)) > 0.1
    values = random.normal(5.0, 3.0, (60, 3, 2)).astype(np.float32)
    store = ArrayStore(str(tmp_path))
    stored = store.write_tensors({"values": values, "valid": valid, "close": close})
    dataset = Dataset(target=target, window=WINDOW, prediction_length=2)
    labels = session_labels(close, target)
    scalers = fit_scalers(values, valid, labels, Segment(WINDOW - 1, 30), dataset)
    path = store.local_path(stored.location)
    data = load_training_data(path, dataset, scalers, Segment(5, 30), Segment(40, 50))
    assert data.windows.values.numpy().tobytes() == values.tobytes()
    features, known = data.windows.batch(torch.tensor([30]))
    scaled = scalers[0].transform(values[25:31])
    np.testing.assert_array_equal(features[0].numpy(), scaled)
    np.testing.assert_array_equal(known[0].numpy(), valid[25:31])
    np.testing.assert_array_equal(
        data.target.numpy(), scalers[1].transform(labels[..., np.newaxis])[..., 0]
    )
    assert (data.train.tolist(), data.validation.tolist()) == (
        list(range(5, 31)),
        list(range(40, 51)),
    )
    assert data.horizon == 2
