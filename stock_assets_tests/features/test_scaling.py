"""Scalers: the definition of each kind, exact round trips, and tickers with few rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stock_assets.core.errors import StockAssetsError
from stock_assets.features import scaling
from stock_assets.features.scaling import Scaler, fit_scaler
from stock_assets_tests.features.examples import property_test, same_bits

KINDS = ("standard", "minmax", "robust", "zero_mean")
kinds = st.sampled_from(KINDS)


@st.composite
def panels(draw: st.DrawFn):
    """Draw values of very different scales per feature, with at least one valid row."""
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=7))
    unit = draw(hnp.arrays(np.float64, shape[2:], elements=st.floats(1e-4, 1e6)))
    values = draw(hnp.arrays(np.float32, shape, elements=st.floats(-8, 8, width=32))) * unit
    valid = draw(hnp.arrays(np.bool_, shape[:2]))
    valid[0, 0] = True
    values[~valid] = np.nan
    return values.astype(np.float32), valid


@property_test
@given(panels(), kinds, st.integers(0, 4))
def test_inverse_undoes_transform(panel, kind, minimum_rows):
    values, valid = panel
    scaler = fit_scaler(values, valid, kind, minimum_rows)
    back = scaler.inverse(scaler.transform(values))
    # Half a unit in the last place of centre, difference, scale and quotient each.
    rounding = np.finfo(np.float32).eps / 2
    allowed = 4 * rounding * (np.abs(values - scaler.centre) + np.abs(scaler.centre)) + 1e-37
    assert (np.abs(back - values) <= allowed)[valid].all()
    assert np.isnan(back[~valid]).all()


@property_test
@given(panels(), kinds)
def test_scaler_survives_json(panel, kind):
    scaler = fit_scaler(*panel, kind, minimum_rows=2)
    again = Scaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert again.kind == scaler.kind
    for name in ("centre", "scale", "rows", "pooled"):
        assert same_bits(getattr(again, name), getattr(scaler, name)), name


@property_test
@given(panels(), kinds, st.integers(0, 4), st.floats(-1e9, 1e9, width=32))
def test_invalid_values_are_ignored(panel, kind, minimum_rows, filler):
    values, valid = panel
    filled = np.where(valid[..., None], values, np.float32(filler))
    one, other = (fit_scaler(v, valid, kind, minimum_rows) for v in (values, filled))
    assert same_bits(one.centre, other.centre)
    assert same_bits(one.scale, other.scale)


@property_test
@given(panels(), st.floats(-1e6, 1e6, width=32), st.sampled_from(["standard", "minmax", "robust"]))
def test_constant_feature_scales_to_zero(panel, constant, kind):
    values, valid = panel
    values[..., 0] = constant
    scaler = fit_scaler(values, valid, kind, minimum_rows=1)
    assert (scaler.scale[:, 0] == 1.0).all()
    assert (scaler.transform(values)[..., 0] == 0.0).all()


def noise(rows: int = 400, tickers: int = 3, features: int = 4):
    random = np.random.default_rng(11)
    values = random.normal(5.0, [1.0, 10.0, 0.1, 1e6], (rows, tickers, features))
    return values.astype(np.float32), random.random((rows, tickers)) < 0.9


def test_standard_scaling():
    values, valid = noise()
    scaled = fit_scaler(values, valid, "standard").transform(values)
    for ticker in range(3):
        own = scaled[valid[:, ticker], ticker]
        np.testing.assert_allclose(own.mean(axis=0), 0.0, atol=1e-5)
        np.testing.assert_allclose(own.std(axis=0), 1.0, rtol=1e-5)


def test_minmax_scaling_is_centred_and_does_not_clip():
    values, valid = noise()
    scaler = fit_scaler(values, valid, "minmax")
    scaled = scaler.transform(values)
    for ticker in range(3):
        own = scaled[valid[:, ticker], ticker]
        np.testing.assert_allclose(own.min(axis=0), -0.5, rtol=1e-5)
        np.testing.assert_allclose(own.max(axis=0), 0.5, rtol=1e-5)
    above = scaler.centre + 2.0 * scaler.scale
    np.testing.assert_allclose(scaler.transform(above), 2.0, rtol=1e-6)


def test_robust_scaling_ignores_outliers():
    values, valid = noise()
    scaler = fit_scaler(values, valid, "robust")
    for ticker in range(3):
        own = values[valid[:, ticker], ticker].astype(np.float64)
        first, median, third = np.percentile(own, (25, 50, 75), axis=0)
        np.testing.assert_allclose(scaler.centre[ticker], median, rtol=1e-6)
        np.testing.assert_allclose(scaler.scale[ticker], third - first, rtol=1e-5)
    row = np.flatnonzero(valid[:, 0])[values[valid[:, 0], 0, 0].argmax()]
    values[row, 0] = values[valid[:, 0], 0].max(axis=0) * 1e6
    again = fit_scaler(values, valid, "robust")
    assert again.centre[0, 0] == scaler.centre[0, 0]
    assert again.scale[0, 0] == scaler.scale[0, 0]


@property_test
@given(panels(), kinds, st.integers(0, 4), st.integers(1, 60))
def test_fit_does_not_depend_on_block_size(panel, kind, minimum_rows, numbers):
    whole = fit_scaler(*panel, kind, minimum_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "BLOCK_NUMBERS", numbers)
        parts = fit_scaler(*panel, kind, minimum_rows)
    np.testing.assert_allclose(parts.centre, whole.centre, rtol=1e-12, atol=1e-30)
    np.testing.assert_allclose(parts.scale, whole.scale, rtol=1e-12, atol=1e-30)


def test_zero_mean_scaling_keeps_zero():
    values, valid = noise()
    scaler = fit_scaler(values, valid, "zero_mean")
    scaled = scaler.transform(values)
    assert (scaler.transform(np.zeros((1, 3, 4))) == 0.0).all()
    assert (scaler.inverse(np.zeros((1, 3, 4))) == 0.0).all()
    for ticker in range(3):
        own = scaled[valid[:, ticker], ticker]
        np.testing.assert_allclose(np.mean(own**2, axis=0), 1.0, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_ticker_with_few_rows_has_pooled_statistics(kind):
    values, valid = noise()
    valid[:, 1] = np.arange(400) < 59
    valid[:, 2] = np.arange(400) < 60
    scaler = fit_scaler(values, valid, kind, minimum_rows=60)
    assert scaler.rows.tolist() == valid.sum(axis=0).tolist()
    assert scaler.pooled.tolist() == [False, True, False]
    rows = values[valid][:, None]
    everything = fit_scaler(rows, np.ones(rows.shape[:2], bool), kind)
    np.testing.assert_allclose(scaler.centre[1], everything.centre[0], rtol=1e-12)
    np.testing.assert_allclose(scaler.scale[1], everything.scale[0], rtol=1e-12)


@property_test
@given(kinds, st.integers(1, 200))
def test_ticker_with_enough_rows_is_fitted_alone(kind, minimum_rows):
    values, valid = noise()
    together = fit_scaler(values, valid, kind, minimum_rows)
    alone = fit_scaler(values[:, :1], valid[:, :1], kind, minimum_rows)
    np.testing.assert_allclose(together.centre[:1], alone.centre, rtol=1e-12)
    np.testing.assert_allclose(together.scale[:1], alone.scale, rtol=1e-12)


def test_fit_without_valid_rows_is_an_error():
    values, valid = noise()
    with pytest.raises(StockAssetsError, match="complete row"):
        fit_scaler(values, np.zeros_like(valid), "standard")
