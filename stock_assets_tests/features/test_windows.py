"""Windows: cut as a plain loop cuts, scaled like the panel, labelled with the next sessions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stock_assets.config import Dataset
from stock_assets.features.labels import session_labels
from stock_assets.features.panel import build_panel
from stock_assets.features.scaling import fit_scaler
from stock_assets.features.splits import split_sessions
from stock_assets.features.windows import Windows, cut_windows, usable_windows
from stock_assets_tests.features.examples import (
    FIRST,
    as_frame,
    as_traded,
    property_test,
    same_bits,
    session_dates,
    walk,
)


@pytest.mark.parametrize("horizon", [1, 3])
def test_window_is_labelled_with_the_next_sessions(horizon):
    rows, window = 120, 7
    bars = walk(rows, seed=0)
    bars |= dict.fromkeys(("open", "high", "low", "close"), np.arange(1.0, rows + 1))
    bars["dividends"] = bars["stock_splits"] = np.zeros(rows)
    last = session_dates(rows)[-1].date()
    panel = build_panel(as_traded(as_frame({"AAA": bars})), ["AAA"], ["Close"], FIRST, last)
    labels = session_labels(panel.close, "close")
    dataset = Dataset(
        window=window,
        prediction_length=horizon,
        validation_sessions=20,
        test_sessions=10,
        embargo_sessions=2,
    )
    split = split_sessions(rows, dataset)
    for segment in (split.train, split.validation, split.test):
        ends = segment.positions()
        windows = cut_windows(torch.from_numpy(panel.values), torch.from_numpy(ends), window)
        seen = windows[:, :, 0, 0].numpy()
        for step in range(horizon):
            np.testing.assert_array_equal(seen[:, -1] + step + 1, labels[ends + step, 0])
        np.testing.assert_array_equal(np.diff(seen, axis=1), 1.0)


@st.composite
def masks(draw: st.DrawFn):
    rows, tickers = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    valid = draw(hnp.arrays(np.bool_, (rows, tickers)))
    elements = st.one_of(st.just(np.nan), st.floats(-1, 1))
    target = draw(hnp.arrays(np.float64, (rows, tickers), elements=elements))
    window = draw(st.integers(1, rows))
    ends = draw(hnp.arrays(np.int64, st.integers(0, 8), elements=st.integers(window - 1, rows - 1)))
    return valid, target, ends, window


@property_test
@given(masks(), st.sampled_from([0.0, 0.3, 0.5, 0.55, 0.7, 0.9, 1.0]))
def test_usable_windows_agree_with_a_plain_loop(mask, coverage):
    valid, _, ends, window = mask
    expected = np.zeros((len(ends), valid.shape[1]), dtype=bool)
    for number, end in enumerate(ends):
        for ticker in range(valid.shape[1]):
            seen = valid[end - window + 1 : end + 1, ticker]
            expected[number, ticker] = seen[-1] and seen.mean() >= coverage
    found = usable_windows(valid, ends, window, coverage)
    np.testing.assert_array_equal(found, expected)


def test_usable_windows_include_the_minimum_share():
    valid = np.arange(20)[:, None] >= 9
    assert usable_windows(valid, np.array([19]), 20, minimum_share=0.55).all()
    assert not usable_windows(valid, np.array([19]), 20, minimum_share=0.56).any()


@property_test
@given(masks())
def test_cut_windows_agree_with_slices(mask):
    valid, target, ends, window = mask
    for rows in (torch.from_numpy(valid), torch.from_numpy(np.stack([target, -target], axis=2))):
        windows = cut_windows(rows, torch.from_numpy(ends), window)
        assert windows.shape == (len(ends), window, *rows.shape[1:])
        assert windows.dtype == rows.dtype
        assert windows.transpose(0, 1).is_contiguous()
        for number, end in enumerate(ends):
            torch.testing.assert_close(
                windows[number], rows[end - window + 1 : end + 1], rtol=0, atol=0, equal_nan=True
            )


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
def test_batch_scales_windows_like_the_panel(kind):
    random = np.random.default_rng(0)
    values = random.normal(1e4, 30.0, (50, 3, 2)).astype(np.float32)
    valid = random.random((50, 3)) > 0.1
    scaler = fit_scaler(values[:30], valid[:30], kind, minimum_rows=1)
    windows = Windows.from_panel(torch.from_numpy(values), torch.from_numpy(valid), scaler, 6)
    before = values.copy()
    ends = np.array([49, 5, 20, 20])
    features, known = windows.batch(torch.from_numpy(ends))
    scaled = scaler.transform(values)
    for number, end in enumerate(ends):
        assert same_bits(features[number].numpy(), scaled[end - 5 : end + 1])
        np.testing.assert_array_equal(known[number].numpy(), valid[end - 5 : end + 1])
    assert same_bits(windows.values.numpy(), before), "windows are copies"


@pytest.mark.parametrize("end", [3, 20])
def test_cut_windows_outside_the_panel_are_an_error(end):
    with pytest.raises(IndexError):
        cut_windows(torch.zeros(20, 2, 3), torch.tensor([10, end]), window=5)


def test_usable_windows_before_the_panel_are_an_error():
    with pytest.raises(ValueError, match="window of 5 that ends at 3"):
        usable_windows(np.ones((20, 2), bool), np.array([10, 3]), window=5)


def test_cut_windows_read_only_their_rows():
    """The panel would take 4 TB if it were copied: one row, repeated with a stride of 0."""
    panel = torch.arange(1000.0).view(1, 50, 20).expand(1_000_000_000, 50, 20)
    windows = cut_windows(panel, torch.tensor([100, 999_999_999]), window=30)
    assert torch.equal(windows, panel[:30].expand(2, 30, 50, 20))
