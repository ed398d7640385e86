"""Array files: named by their content, complete or absent, equal to the bit."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stock_assets.core import digests
from stock_assets.core.digests import DamagedFileError
from stock_assets.core.errors import StockAssetsError
from stock_assets.storage.arrays import ArrayStore

VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def files_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_file_is_named_by_the_digest_of_its_bytes(tmp_path: Path) -> None:
    stored = ArrayStore(str(tmp_path)).write_tensors({"values": VALUES})
    path = tmp_path / stored.location
    assert hashlib.sha256(path.read_bytes()).hexdigest() == stored.digest
    assert stored.location == f"{stored.digest[:2]}/{stored.digest}.safetensors"
    assert path.stat().st_size == stored.size


def test_equal_content_is_written_once(tmp_path: Path) -> None:
    store = ArrayStore(str(tmp_path))
    first = store.write_tensors({"a": VALUES, "b": VALUES > 3})
    written = (tmp_path / first.location).stat()
    second = store.write_tensors({"b": VALUES > 3, "a": VALUES.copy()})
    again = (tmp_path / second.location).stat()
    assert second == first
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert len(files_under(tmp_path)) == 1


def test_other_content_is_another_file(tmp_path: Path) -> None:
    store = ArrayStore(str(tmp_path))
    changed = VALUES.copy()
    changed[1, 2, 3] = np.nextafter(changed[1, 2, 3], np.float32(99))
    names = {
        store.write_tensors({"a": VALUES}).location,
        store.write_tensors({"a": changed}).location,
        store.write_tensors({"b": VALUES}).location,
        store.write_tensors({"a": VALUES.reshape(3, 2, 4)}).location,
        store.write_tensors({"a": VALUES.astype(np.float64)}).location,
    }
    assert len(names) == len(files_under(tmp_path)) == 5


@settings(max_examples=10)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.bool_, np.int64]),
        hnp.array_shapes(max_dims=3, max_side=5),
    )
)
def test_read_tensors_returns_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray
) -> None:
    store = ArrayStore(str(tmp_path_factory.getbasetemp() / "tensors"))
    back = store.read_tensors(store.write_tensors({"values": values}).location)["values"]
    assert (back.dtype, back.shape) == (values.dtype, values.shape)
    assert back.tobytes() == values.tobytes()


def test_strides_do_not_matter(tmp_path: Path) -> None:
    store = ArrayStore(str(tmp_path))
    turned = VALUES.transpose(2, 0, 1)
    stored = store.write_tensors({"values": turned})
    assert stored == store.write_tensors({"values": turned.copy()})
    np.testing.assert_array_equal(store.read_tensors(stored.location)["values"], turned)


def test_a_missing_array_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    store = ArrayStore(str(tmp_path))
    stored = store.write_tensors({"values": VALUES})
    (tmp_path / stored.location).unlink()
    with pytest.raises(
        StockAssetsError, match=r"is missing from .*stock-assets retrain --dataset"
    ) as caught:
        store.read_tensors(stored.location)
    assert stored.location in caught.value.problem
    assert "\n" not in str(caught.value)


def test_an_interrupted_write_leaves_no_named_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArrayStore(str(tmp_path))

    def half(tensors: dict[str, np.ndarray], path: Path) -> None:
        path.write_bytes(VALUES.tobytes()[:40])
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("safetensors.numpy.save_file", half)
        with pytest.raises(OSError, match="no space left"):
            store.write_tensors({"values": VALUES})
    assert not list(tmp_path.rglob("*.safetensors"))
    stored = store.write_tensors({"values": VALUES})
    np.testing.assert_array_equal(store.read_tensors(stored.location)["values"], VALUES)


def test_content_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"object|dtype"):
        ArrayStore(str(tmp_path)).write_tensors({"values": np.array([object()])})
    assert not files_under(tmp_path)


def test_an_object_store_works_like_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = ArrayStore("memory://bucket/arrays")
    stored = store.write_tensors({"values": VALUES})
    assert stored == store.write_tensors({"values": VALUES})
    fetched = store.local_path(stored.location)
    assert hashlib.sha256(fetched.read_bytes()).hexdigest() == stored.digest
    written = fetched.stat().st_mtime_ns
    np.testing.assert_array_equal(store.read_tensors(stored.location)["values"], VALUES)
    assert store.local_path(stored.location).stat().st_mtime_ns == written
    with pytest.raises(StockAssetsError, match="is missing from"):
        store.read_tensors("ab/abc.safetensors")


def test_digest_ignores_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = ArrayStore("memory://bucket/damaged")
    stored = store.write_tensors({"values": VALUES})
    store.local_path(stored.location)
    assert store.digest(stored.location) == stored.digest
    with fsspec.open(f"memory://bucket/damaged/{stored.location}", "wb") as file:
        file.write(b"damaged")
    assert store.digest(stored.location) == hashlib.sha256(b"damaged").hexdigest()
    with pytest.raises(StockAssetsError, match="is missing from"):
        store.digest("ab/abc.safetensors")


def test_each_of_a_thousand_changed_bytes_is_found_and_named(tmp_path: Path) -> None:
    store, choose = ArrayStore(str(tmp_path)), np.random.default_rng(7)
    stored = store.write_tensors({"values": choose.normal(size=(60, 5, 13)), "valid": VALUES > 3})
    path = tmp_path / stored.location
    content = path.read_bytes()
    places = choose.choice(len(content), 1000, replace=False)
    for place, change in zip(places.tolist(), choose.integers(1, 256, 1000).tolist(), strict=True):
        changed = bytearray(content)
        changed[place] ^= change
        path.write_bytes(changed)
        with pytest.raises(DamagedFileError, match=stored.location) as caught:
            store.read_tensors(stored.location)
        assert stored.digest[:12] in caught.value.problem
    path.write_bytes(content)
    np.testing.assert_array_equal(store.read_tensors(stored.location)["valid"], VALUES > 3)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\n", lambda b: b""])
def test_a_file_of_another_length_is_damaged(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    store = ArrayStore(str(tmp_path))
    stored = store.write_tensors({"values": VALUES})
    path = tmp_path / stored.location
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DamagedFileError, match=stored.location):
        store.local_path(stored.location)


def test_a_file_of_other_content_is_damaged(tmp_path: Path) -> None:
    store = ArrayStore(str(tmp_path))
    one, other = (store.write_tensors({"values": VALUES + shift}) for shift in (0, 1))
    shutil.copy(tmp_path / other.location, tmp_path / one.location)
    with pytest.raises(DamagedFileError, match=one.location):
        store.read_tensors(one.location)


def test_an_unchanged_file_is_read_for_its_digest_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = ArrayStore(str(tmp_path)), []
    stored = store.write_tensors({"values": VALUES})
    original = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path: read.append(path) or original(path))
    for _ in range(3):
        store.local_path(stored.location)
    assert read == [tmp_path / stored.location]
    os.utime(tmp_path / stored.location)
    store.local_path(stored.location)
    assert len(read) == 2


def test_a_damaged_file_is_replaced_by_its_content(tmp_path: Path) -> None:
    store = ArrayStore(str(tmp_path))
    stored = store.write_tensors({"values": VALUES})
    (tmp_path / stored.location).write_bytes(b"damaged")
    assert store.write_tensors({"values": VALUES}) == stored
    np.testing.assert_array_equal(store.read_tensors(stored.location)["values"], VALUES)


def test_a_damaged_cached_file_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = ArrayStore("memory://bucket/cached")
    stored = store.write_tensors({"values": VALUES})
    store.local_path(stored.location).write_bytes(b"damaged")
    np.testing.assert_array_equal(store.read_tensors(stored.location)["values"], VALUES)
    with fsspec.open(f"memory://bucket/cached/{stored.location}", "wb") as file:
        file.write(b"damaged")
    store.local_path(stored.location).unlink()
    with pytest.raises(DamagedFileError, match=stored.location):
        store.read_tensors(stored.location)


def test_the_digest_of_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    store = ArrayStore(str(tmp_path))
    stored = store.write_tensors({"a": VALUES})
    (tmp_path / stored.location).unlink()
    (tmp_path / stored.location).mkdir()
    with pytest.raises(DamagedFileError, match=stored.location):
        store.digest(stored.location)
