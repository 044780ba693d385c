"""The cache of arrays on disk: broken files, its limit, and several processes."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from es_latechunk.evaluation.vectors.cache import ArrayCache, default_cache_folder

LIMIT = 1_000_000


def rows(number: int, size: int = 1000) -> dict[str, np.ndarray]:
    return {"rows": np.full(size, number, dtype=np.float64)}


def key(number: int) -> str:
    return f"{number:064x}"[::-1]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*/*") if path.is_file()]


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, max_bytes=LIMIT)
    assert cache.get(key(1)) is None
    cache.put(key(1), {"rows": np.eye(3, dtype=np.float16), "seconds": np.array(1.5)})
    found = ArrayCache(tmp_path, max_bytes=LIMIT).get(key(1))
    assert found is not None
    assert found["rows"].dtype == np.float16
    assert found["rows"].tolist() == np.eye(3).tolist()
    assert float(found["seconds"]) == 1.5


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign", "pickled"])
def test_a_broken_file_counts_as_missing_and_is_replaced(tmp_path: Path, damage: str) -> None:
    cache = ArrayCache(tmp_path, max_bytes=LIMIT)
    cache.put(key(1), rows(1))
    [path] = files(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "pickled":
        np.save(path.open("wb"), np.array([{}]), allow_pickle=True)
    else:
        middle = len(content) // 2
        content[middle] ^= 1
        path.write_bytes(
            {"cut": content[:middle], "empty": b"", "foreign": b"text"}.get(damage, bytes(content))
        )
    assert cache.get(key(1)) is None
    cache.put(key(1), rows(2))
    found = cache.get(key(1))
    assert found is not None
    assert found["rows"][0] == 2


def test_the_folder_stays_below_its_limit_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, max_bytes=LIMIT)
    for number in range(300):
        cache.put(key(number), rows(number))
        assert cache.get(key(0)) is not None
        assert sum(path.stat().st_size for path in files(tmp_path)) <= LIMIT
    kept = [number for number in range(300) if cache.get(key(number)) is not None]
    assert kept == [0, *range(300 - len(kept) + 1, 300)]
    assert len(kept) > 100


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    for size in (0, 1000):
        cache = ArrayCache(tmp_path, max_bytes=size)
        cache.put(key(1), rows(1))
        assert cache.get(key(1)) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ArrayCache(tmp_path / "file", max_bytes=LIMIT)
    cache.put(key(1), rows(1))
    assert cache.get(key(1)) is None


def test_what_a_killed_process_left_is_removed_in_its_turn(tmp_path: Path) -> None:
    (tmp_path / "00").mkdir()
    half = tmp_path / "00" / "left.partial"
    half.write_bytes(bytes(LIMIT // 2))
    cache = ArrayCache(tmp_path, max_bytes=LIMIT)
    for number in range(100):
        cache.put(key(number), rows(number))
    assert not half.exists()


def use(folder: Path, first: int) -> None:
    """Write and read the same keys as the other process, in another order, in a cache too small for them."""
    cache = ArrayCache(folder, max_bytes=LIMIT)
    for step in range(400):
        number = (first + step) % 150
        found = cache.get(key(number))
        if found is None:
            cache.put(key(number), rows(number))
        else:
            assert set(found["rows"].tolist()) == {float(number)}


def test_two_processes_at_once_do_no_harm(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=use, args=(tmp_path, first)) for first in (0, 75)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert not [path for path in files(tmp_path) if path.suffix == ".partial"]


def test_the_default_folder_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "es-latechunk" / "evaluate"
