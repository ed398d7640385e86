"""Files of a bundle: they restore every bit, and damage is found and named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stock_assets.core.digests import DamagedFileError
from stock_assets.core.errors import StockAssetsError
from stock_assets.models.bundle import Bundle
from stock_assets.models.bundle_digests import BundleDigests
from stock_assets.models.intervals import FixedIntervals
from stock_assets.models.recipe import Recipe
from stock_assets_tests.features.examples import same_bits
from stock_assets_tests.models.bundles import (
    AS_OF,
    DAYS,
    bundle,
    each_architecture,
    example,
    same_frame,
    sample_bars,
)


@each_architecture
def test_bundle_survives_save_and_load(architecture: str, tmp_path: Path) -> None:
    model = example(architecture)
    model.save(tmp_path / "bundle")
    back = Bundle.load(tmp_path / "bundle")
    assert back.digest() == model.digest()
    assert back.recipe.to_dict() == model.recipe.to_dict()
    assert same_bits(back.recipe.feature_scaler.scale, model.recipe.feature_scaler.scale)
    assert same_frame(back.forecast(sample_bars(), DAYS), model.forecast(sample_bars(), DAYS))


def test_bundle_files_are_json_and_safetensors(tmp_path: Path) -> None:
    example("lstm").save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bundle.json",
        "network.safetensors",
    ]
    assert Recipe.from_dict(json.loads((tmp_path / "bundle.json").read_text())).as_of == AS_OF


def test_load_of_a_folder_without_a_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=r"bundle\.json cannot be read: No such file"):
        Bundle.load(tmp_path)


def test_load_of_an_incompatible_bundle_is_an_error(tmp_path: Path) -> None:
    example("lstm").save(tmp_path)
    path = tmp_path / "bundle.json"
    plain = json.loads(path.read_text())
    plain["interval_width"] = plain.pop("interval_widths")[0]
    path.write_text(json.dumps(plain))
    with pytest.raises(StockAssetsError, match="incompatible version") as caught:
        Bundle.load(tmp_path)
    assert "stock-assets retrain" in caught.value.remedy


@pytest.mark.parametrize("name", ["bundle.json", "network.safetensors"])
def test_each_of_a_thousand_changed_bytes_is_found_and_named(name: str, tmp_path: Path) -> None:
    recorded = example("lstm").save(tmp_path)
    path, choose = tmp_path / name, np.random.default_rng(7)
    content = path.read_bytes()
    places = choose.choice(len(content), 1000, replace=False)
    for place, change in zip(places.tolist(), choose.integers(1, 256, 1000).tolist(), strict=True):
        changed = bytearray(content)
        changed[place] ^= change
        path.write_bytes(changed)
        with pytest.raises(DamagedFileError) as caught:
            Bundle.load(tmp_path, recorded)
        assert str(path) in caught.value.problem
        assert recorded.files[name][:12] in caught.value.problem
    path.write_bytes(content)
    assert Bundle.load(tmp_path, recorded).digest() == recorded.content


@pytest.mark.parametrize("name", ["bundle.json", "network.safetensors"])
@pytest.mark.parametrize("with_files", [True, False])
def test_a_missing_truncated_or_foreign_file_is_named(
    name: str, with_files: bool, tmp_path: Path
) -> None:
    recorded = example("lstm").save(tmp_path / "own")
    bundle(seed=2, scaler="minmax").save(tmp_path / "foreign")
    if not with_files:
        recorded = BundleDigests(recorded.content, {})
    path = tmp_path / "own" / name
    content, foreign = path.read_bytes(), (tmp_path / "foreign" / name).read_bytes()
    for harm in (None, b"", content[:-1], content[: len(content) // 2], foreign):
        path.unlink()
        if harm is not None:
            path.write_bytes(harm)
        with pytest.raises(DamagedFileError) as caught:
            Bundle.load(tmp_path / "own", recorded)
        assert str(path.parent) in caught.value.problem
        assert "\n" not in str(caught.value)
        path.touch()


def test_changed_content_is_found_without_the_digests_of_files(tmp_path: Path) -> None:
    model = example("lstm")
    recorded = BundleDigests(model.digest(), {})
    wider = replace(model.recipe, intervals=FixedIntervals((0.71,), 0.9))
    for changed in (Bundle(wider, model.network), bundle(seed=2)):
        changed.save(tmp_path)
        with pytest.raises(DamagedFileError, match=recorded.content[:12]):
            Bundle.load(tmp_path, recorded)
    model.save(tmp_path)
    Bundle.load(tmp_path, recorded)


def test_digest_depends_on_recipe_and_weights() -> None:
    model = example("lstm")
    other = Bundle(replace(model.recipe, intervals=FixedIntervals((0.8,), 0.9)), model.network)
    digests = {model.digest(), other.digest(), bundle(seed=2).digest()}
    assert len(digests) == 3
    assert bundle().digest() == model.digest()
