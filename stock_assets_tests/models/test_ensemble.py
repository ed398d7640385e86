"""Ensembles: members trained from separate seeds, their average, and models of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stock_assets.config import Training
from stock_assets.models.bundle import Bundle
from stock_assets.models.candidate import Candidate, train_candidate
from stock_assets.models.checkpoint import Checkpoint, CheckpointFolder, TrainingState
from stock_assets.models.data import TrainingData
from stock_assets.models.device import windows_per_pass
from stock_assets.models.networks import NetworkSpec, build_network, members_of
from stock_assets.models.refit import refit_bundle
from stock_assets.models.training import forecast_scaled, weights_digest
from stock_assets.models.tuning import Hyperparameters
from stock_assets_tests.models.bundles import bundle
from stock_assets_tests.models.examples import learnable_data, spec

DATA = learnable_data()
BEST = Hyperparameters("lstm", 8, 1, 0.2, 0.01, 16)
TRAINING = Training(epochs=3, patience=3, loss="mse", device="cpu", seed=5, ensemble=3)
BATCH = 16


def trained(
    data: TrainingData = DATA, checkpoints: CheckpointFolder | None = None, **changes: int
) -> Candidate:
    training = TRAINING.model_copy(update=changes)
    return train_candidate(data, BEST, training, checkpoints)


def digests(candidate: Candidate) -> list[str]:
    """Return the digests of all members."""
    return [weights_digest(member) for member in members_of(candidate.network)]


@pytest.fixture(scope="module")
def ensemble() -> Candidate:
    return trained()


def test_members_are_the_networks_trained_from_consecutive_seeds(ensemble: Candidate) -> None:
    alone = [trained(ensemble=1, seed=seed) for seed in (5, 6, 7)]
    assert digests(ensemble) == [weights_digest(one.network) for one in alone]
    assert len(set(digests(ensemble))) == 3
    assert ensemble.fits == tuple(one.fit for one in alone)


def test_forecast_is_the_mean_of_those_of_the_members(ensemble: Candidate) -> None:
    members = [
        forecast_scaled(member, DATA.windows, DATA.validation)
        for member in members_of(ensemble.network)
    ]
    found = forecast_scaled(ensemble.network, DATA.windows, DATA.validation)
    np.testing.assert_allclose(found, np.mean(members, axis=0), rtol=1e-5, atol=1e-7)
    assert np.abs(found - members[0]).max() > 1e-3


def test_a_network_is_its_only_member() -> None:
    network = build_network(spec())
    assert members_of(network) == [network]
    assert weights_digest(build_network(spec(members=1), 4)) == weights_digest(
        build_network(spec(), 4)
    )


def test_specification_of_an_ensemble_survives_plain_values() -> None:
    chosen = spec(members=3)
    assert NetworkSpec(**chosen.to_dict()) == chosen
    assert "members" not in spec().to_dict()


def test_a_pass_of_an_ensemble_is_that_of_a_member() -> None:
    one, three = (build_network(spec(tickers=300, members=members)) for members in (1, 3))
    assert windows_per_pass(three, gradients=False) == windows_per_pass(one, gradients=False)


def test_tickers_without_training_data_are_ignored_by_every_member() -> None:
    valid = DATA.windows.valid.clone()
    valid[: DATA.train[-1] + 1, 1] = False
    data = replace(DATA, windows=replace(DATA.windows, valid=valid))
    for member in members_of(trained(data).network):
        weights = member.get_parameter("recurrent.weight_ih_l0").view(-1, 3, 2)
        assert not weights[:, 1].any()
        assert weights[:, 0].any()


def test_interrupted_ensemble_continues_from_its_checkpoints(
    ensemble: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = CheckpointFolder(tmp_path, "data")
    calls = iter(range(100))

    def interrupt(self: Checkpoint, state: TrainingState) -> None:
        original(self, state)
        if next(calls) == 4:  # the second epoch of the second member
            raise KeyboardInterrupt

    original = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoints=checkpoints)
    saved = sorted(path.name for path in tmp_path.iterdir())
    assert saved == ["candidate.safetensors", "candidate_member_2.safetensors"]
    assert digests(trained(checkpoints=checkpoints)) == digests(ensemble)
    assert next(calls) == 9, "4 epochs were left"


def model_of(candidate: Candidate) -> Bundle:
    """Return a bundle of a candidate; its other parts are of no importance here."""
    recipe = replace(bundle().recipe, network=candidate.network.spec)
    return Bundle(recipe, candidate.network)


def test_model_of_an_ensemble_survives_save_and_load(ensemble: Candidate, tmp_path: Path) -> None:
    model = model_of(ensemble)
    model.save(tmp_path)
    again = Bundle.load(tmp_path)
    assert again.digest() == model.digest()
    assert again.network.spec.members == 3


def test_refit_with_the_rates_of_every_member_is_the_candidate(
    ensemble: Candidate, tmp_path: Path
) -> None:
    rates = [
        [score.learning_rate for score in fit.history[: fit.best_epoch]] for fit in ensemble.fits
    ]
    checkpoints = CheckpointFolder(tmp_path, "data")
    refit = refit_bundle(model_of(ensemble), DATA, TRAINING, BATCH, rates, checkpoints)
    assert weights_digest(refit.bundle.network) == weights_digest(ensemble.network)
    assert [len(losses) for losses in refit.losses] == [fit.best_epoch for fit in ensemble.fits]
    assert sorted(path.stem for path in tmp_path.iterdir()) == [
        *("refit", "refit_member_2", "refit_member_3"),
    ]


def test_refit_needs_the_rates_of_every_member(ensemble: Candidate) -> None:
    with pytest.raises(ValueError, match="shorter"):
        refit_bundle(model_of(ensemble), DATA, TRAINING, BATCH, [[0.01]])
