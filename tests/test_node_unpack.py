"""Archives: all or nothing, and nothing outside; and the checks before they are opened."""

import hashlib
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from es_latechunk.errors import NodeError
from es_latechunk.node import install as distribution
from es_latechunk.node.install import unpack, unpacked_size


def archive(path: Path, members: dict[str, str], *, mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, text in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            opened.writestr(member, text)
    return path


def test_unpacks_the_top_folder_with_programs_that_run(tmp_path: Path) -> None:
    source = archive(
        tmp_path / "a.zip", {"es-1/bin/run": "#!", "es-1/lib/x.jar": "x"}, mode=stat.S_IFREG | 0o755
    )
    unpack(source, tmp_path / "target")
    assert (tmp_path / "target" / "bin" / "run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "target" / "lib" / "x.jar").read_text() == "x"
    assert unpacked_size(source) == 3


@pytest.mark.parametrize(
    "name", ["../out", "es/../../out", "/out", "es/../../../tmp/out", "es\\..\\out", "..", "es/./../../out"]
)
def test_a_path_that_escapes_is_refused_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "home"
    folder.mkdir(parents=True)
    source = archive(tmp_path / "a.zip", {"es/good": "x", name: "evil"})
    with pytest.raises(NodeError, match="leads outside"):
        unpack(source, folder / "target")
    assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "deep", "home"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(tmp_path: Path, kind: int) -> None:
    source = archive(tmp_path / "a.zip", {"es/link": "/etc/passwd"}, mode=kind | 0o777)
    with pytest.raises(NodeError, match="link or a special file"):
        unpack(source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_damaged_archive_leaves_nothing(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", {"es/a": "a" * 1000, "es/b": "b" * 1000})
    content = bytearray(source.read_bytes())
    content[content.rindex(b"b" * 1000) + 10] ^= 1
    source.write_bytes(content)
    with pytest.raises(NodeError, match="damaged archive"):
        unpack(source, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_two_top_folders_are_refused(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", {"one/a": "", "two/b": ""})
    with pytest.raises(NodeError, match="found 2"):
        unpack(source, tmp_path / "target")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release "1.2.3" whose archive is a small file, in place of the download."""
    source = archive(tmp_path / "es.zip", {"es/lib/elasticsearch-1.2.3.jar": "jar"})
    monkeypatch.setitem(distribution.RELEASES, "1.2.3", hashlib.sha512(source.read_bytes()).hexdigest())
    return source


def test_installs_once_and_asks_nobody_the_second_time(
    tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(distribution, "_resolve", lambda version, _: asked.append(version) or published)
    for _ in range(2):
        target = distribution.install(tmp_path / "home", "1.2.3", progress=lambda _: None)
        assert (target / "lib" / "elasticsearch-1.2.3.jar").is_file()
    assert asked == ["1.2.3"]


def test_a_damaged_download_is_fetched_again(
    tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(published.read_bytes()[:50])
    answers = iter([damaged, published])
    monkeypatch.setattr(distribution, "_resolve", lambda *_: next(answers))
    told: list[str] = []
    distribution.install(tmp_path / "home", "1.2.3", progress=told.append)
    assert not damaged.exists()
    assert any("is damaged" in line for line in told)


def test_another_file_than_the_published_one_is_never_unpacked(
    tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(*_: object) -> Path:
        return archive(tmp_path / "other.zip", {"es/evil": "x"})

    monkeypatch.setattr(distribution, "_resolve", fetched)
    with pytest.raises(NodeError, match=r"SHA-512 is [0-9a-f]{16}\.\.\., expected [0-9a-f]{16}"):
        distribution.install(tmp_path / "home", "1.2.3", progress=lambda _: None)
    assert list((tmp_path / "home" / "elasticsearch").iterdir()) == []


def test_without_jgo_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    with pytest.raises(NodeError, match=r"pip install 'es-latechunk\[node\]'"):
        distribution.install(tmp_path, "9.2.4", progress=lambda _: None)


def test_no_room_is_told_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=r"needs 1000000000 MB, and \d+ MB are free"):
        distribution.check_space(tmp_path, 10**15, "a node")
