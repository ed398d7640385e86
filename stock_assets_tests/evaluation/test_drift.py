"""Drift: zero without change, within the baseline in training, high for a shifted feature."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal, stats

from stock_assets.evaluation.drift import (
    BINS,
    Reference,
    baseline_p95,
    count_rows,
    reference_edges,
    stability,
    window_counts,
)
from stock_assets_tests.features.examples import same_bits

law = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)
values = st.one_of(
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from([-1.0, 0.0, 1.0]),  # so few that edges are equal
)
tables = st.tuples(st.integers(1, 80), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=values)
)


def referred(rows: np.ndarray) -> Reference:
    edges = reference_edges(rows)
    return Reference(edges, count_rows(rows, edges), 20, np.full(rows.shape[1], 0.1))


def index_of(rows: np.ndarray, reference: Reference) -> np.ndarray:
    return stability(count_rows(rows, reference.edges), reference.counts)


def normal(seed: int, rows: int = 400, features: int = 3) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((rows, features))
    return drawn.astype(np.float32)


@law
@given(tables)
def test_the_same_rows_have_not_drifted(rows: np.ndarray) -> None:
    assert (index_of(rows, referred(rows)) == 0.0).all()


@law
@given(tables, tables, seeds)
def test_the_order_of_rows_does_not_matter(
    trained: np.ndarray, rows: np.ndarray, seed: int
) -> None:
    random, features = np.random.default_rng(seed), min(trained.shape[1], rows.shape[1])
    trained, rows = trained[:, :features], rows[:, :features]
    shuffled = referred(random.permutation(trained))
    assert same_bits(shuffled.edges, reference_edges(trained))
    index = index_of(rows, referred(trained))
    assert same_bits(index_of(random.permutation(rows), shuffled), index)
    assert (index >= 0).all()


@law
@given(tables)
def test_every_row_is_in_one_bin(rows: np.ndarray) -> None:
    reference = referred(rows)
    assert (reference.counts.sum(axis=1) == reference.rows).all()
    assert reference.rows == len(rows)
    for feature, edges in enumerate(reference.edges):
        expected = np.bincount(np.searchsorted(edges, rows[:, feature]), minlength=BINS)
        assert reference.counts[feature].tolist() == expected.tolist()


@law
@given(seeds, st.integers(0, 2), st.floats(0.5, 5.0), st.sampled_from([-1, 1]))
def test_a_shift_of_a_feature_raises_its_index_and_no_others(
    seed: int, feature: int, size: float, sign: int
) -> None:
    reference, rows = referred(normal(seed)), normal(seed + 1)
    before = index_of(rows, reference)
    rows[:, feature] += sign * size
    after = index_of(rows, reference)
    assert after[feature] > before[feature]
    others = np.arange(3) != feature
    assert same_bits(after[others], before[others])


def test_one_in_twenty_windows_of_training_exceeds_the_baseline() -> None:
    shocks = np.random.default_rng(1).normal(size=(600, 1, 40))
    days = signal.lfilter([1.0], [1.0, -0.9], shocks, axis=0)  # neighbouring days are alike
    edges = reference_edges(days[:, 0])
    by_session = count_rows(days, edges)
    usual = baseline_p95(by_session, 20)
    windows = stability(window_counts(by_session, 20), by_session.sum(axis=0))
    assert (windows > usual).mean() == pytest.approx(0.05, abs=0.005)
    independent = (1 / 20 + 1 / 600) * stats.chi2.ppf(0.95, 9)
    assert (usual > independent).all()


@given(st.integers(1, 12), st.integers(1, 12))
def test_rolled_counts_are_sums_of_neighbours(total: int, sessions: int) -> None:
    by_session = np.random.default_rng(total).integers(0, 9, (max(total, sessions), 2, 10))
    found = window_counts(by_session, sessions)
    assert len(found) == len(by_session) - sessions + 1
    for first, window in enumerate(found):
        np.testing.assert_array_equal(window, by_session[first : first + sessions].sum(axis=0))


def test_fewer_sessions_than_a_window_are_one_window() -> None:
    by_session = np.random.default_rng(2).integers(1, 9, (5, 3, 10))
    np.testing.assert_allclose(baseline_p95(by_session, 20), 0.0, atol=1e-15)


def test_the_index_is_its_formula() -> None:
    now, then = np.arange(1, 11), np.full(10, 40)
    p, q = (now + 0.5) / (55 + 5), (then + 0.5) / (400 + 5)
    expected = sum((a - b) * np.log(a / b) for a, b in zip(p, q, strict=True))
    assert stability(now[np.newaxis], then[np.newaxis])[0] == pytest.approx(expected, rel=1e-12)


def test_a_feature_that_never_varied_has_drifted_once_it_does() -> None:
    reference = referred(np.full((900, 1), 0.3, dtype=np.float32))
    rows = np.full((100, 1), 0.3, dtype=np.float32)
    assert index_of(rows, reference) == [0.0]
    lower, upper = rows.copy(), rows.copy()
    lower[:50], upper[:50] = 0.2, 0.4
    assert index_of(lower, reference) == index_of(upper, reference) > 0.25


def test_a_feature_of_two_values_drifts_with_their_shares() -> None:
    trained = (np.arange(1000) % 20 < 7).astype(np.float32)[:, np.newaxis]
    reference = referred(trained)
    assert index_of(trained[:100], reference) < 1e-3
    assert index_of(1 - trained[:100], reference) > 0.25
    for other in (-1.0, 0.5, 2.0):
        assert index_of(np.where(trained[:100] == 1, other, 0.0), reference) > 0.25


def test_nan_rows_are_in_no_bin() -> None:
    reference, rows = referred(normal(1)), normal(2)
    with_holes = np.insert(rows, 7, np.nan, axis=0)
    assert same_bits(index_of(with_holes, reference), index_of(rows, reference))
    assert np.isnan(index_of(with_holes[7:8], reference)).all()


def test_a_reference_is_exact_in_json() -> None:
    reference = referred(normal(3))
    back = Reference.from_dict(json.loads(json.dumps(reference.to_dict())))
    assert same_bits(back.edges, reference.edges)
    assert same_bits(back.counts, reference.counts)
    assert same_bits(back.baseline_p95, reference.baseline_p95)
    assert back.sessions == reference.sessions
