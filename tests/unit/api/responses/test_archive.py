"""Archives: whole, readable by others' tools, and made in bounded pieces."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from light_run.api.responses import archive
from light_run.artifacts.store import ArtifactStore

FILES = {
    "a.txt": b"hello",
    "empty": b"",
    "d/block": bytes(512),
    "d/e/ü 日本": b"x" * 1000,
    "-rf": b"dash",
    "n" * 255: b"long name",
    "/".join(["deep"] * 60): b"deep",
}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A store with one run, ``r``, that left `FILES` and an empty folder."""
    store = ArtifactStore(tmp_path / "artifacts")
    for path, content in FILES.items():
        file = store.folder("r") / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (store.folder("r") / "nothing").mkdir()
    return store


def zip_names(raw: bytes) -> list[str]:
    """What is in a zip file."""
    with zipfile.ZipFile(io.BytesIO(raw)) as found:
        return found.namelist()


def tar_names(raw: bytes) -> list[str]:
    """What is in a tar.gz file."""
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as found:
        return found.getnames()


def test_tar_gz(store: ArtifactStore) -> None:
    raw = b"".join(archive.tar_gz(store, "r"))
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as found:
        members = {member.name: member for member in found}
        for path, content in FILES.items():
            file = found.extractfile(members[path])
            assert file is not None
            assert file.read() == content
        assert members["nothing"].isdir()
        assert members["a.txt"].mtime > 1e9


def test_zip(store: ArtifactStore) -> None:
    raw = b"".join(archive.zip_file(store, "r"))
    with zipfile.ZipFile(io.BytesIO(raw)) as found:
        assert found.testzip() is None
        assert {path: found.read(path) for path in FILES} == FILES
        assert "nothing/" in found.namelist()


@pytest.mark.parametrize("kind", archive.KINDS)
def test_a_run_without_artifacts(store: ArtifactStore, kind: str) -> None:
    raw = b"".join(archive.KINDS[kind](store, "none"))
    assert (zip_names(raw) if kind == "zip" else tar_names(raw)) == []


@pytest.mark.parametrize("kind", archive.KINDS)
def test_a_run_that_is_deleted_meanwhile(store: ArtifactStore, kind: str) -> None:
    (store.folder("r") / "0").write_bytes(os.urandom(1 << 20))
    pieces = archive.KINDS[kind](store, "r")
    assert next(pieces)
    store.remove("r")
    with pytest.raises(ConnectionResetError):
        list(pieces)


def test_a_name_that_is_no_utf_8(store: ArtifactStore) -> None:
    (store.folder("r") / os.fsdecode(b"odd\xff")).write_bytes(b"odd")
    assert "odd%FF" in zip_names(b"".join(archive.zip_file(store, "r")))
    assert "odd%FF" in tar_names(b"".join(archive.tar_gz(store, "r")))


@pytest.mark.parametrize("kind", archive.KINDS)
def test_a_directory_that_would_lead_out_elsewhere_is_left_out(store: ArtifactStore, kind: str) -> None:
    evil = store.folder("r") / "z\\..\\..\\evil"
    evil.mkdir()
    (evil / "x").touch()
    raw = b"".join(archive.KINDS[kind](store, "r"))
    names = zip_names(raw) if kind == "zip" else tar_names(raw)
    assert "a.txt" in names
    assert not [name for name in names if "evil" in name]


def test_dates_before_zip_knew_any(store: ArtifactStore) -> None:
    os.utime(store.folder("r") / "a.txt", (0, 0))
    raw = b"".join(archive.zip_file(store, "r"))
    assert zipfile.ZipFile(io.BytesIO(raw)).getinfo("a.txt").date_time[0] == 1980


@pytest.mark.parametrize("kind", archive.KINDS)
def test_memory_stays_flat(store: ArtifactStore, kind: str) -> None:
    large = store.folder("r") / "large"
    with large.open("wb") as file:
        for _ in range(30):
            file.write(os.urandom(1 << 20))
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in archive.KINDS[kind](store, "r"))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert size > 30 << 20
