"""The store: what a host writes, another reads, whole or not at all."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from light_run.artifacts.store import ArtifactEntry, ArtifactStore, OpenFile
from light_run.errors import ArtifactNotFound, InvalidPath, StoredNotFound, StoreUnavailable
from light_run.store.opening import open_store
from light_run.store.store import Store

RUN = "0b0f9a0e-5c1c-4f0e-9d3b-0a2f3a1f8d11"
MIB = 1 << 20


def _read(opened: OpenFile | tuple[ArtifactEntry, ...]) -> bytes:
    assert isinstance(opened, OpenFile)
    with opened.handle:
        return opened.handle.read()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a run extracted."""
    folder = tmp_path / "extracted"
    (folder / "reports" / "empty").mkdir(parents=True)
    (folder / "result.txt").write_bytes(b"42\n")
    (folder / "nothing").write_bytes(b"")
    (folder / "reports" / "large.bin").write_bytes(os.urandom(3 * MIB + 17))
    return folder


def test_input_is_stored_whole_and_removed(store: Store, store_url: str) -> None:
    assert store.put_input(RUN, io.BytesIO(b"a tar")) == 5
    other = open_store(store_url)
    with other.open_input(RUN) as file:
        assert file.read() == b"a tar"
    other.close()
    store.remove_input(RUN)
    store.remove_input(RUN)
    with pytest.raises(StoredNotFound):
        store.open_input(RUN)


@pytest.mark.parametrize("size", [0, 8 * MIB - 1, 8 * MIB, 17 * MIB + 5], ids=["0", "below", "one", "more"])
def test_objects_of_any_number_of_parts(store: Store, size: int) -> None:
    content = os.urandom(MIB) * (size // MIB) + os.urandom(size % MIB)
    assert store.put_log(RUN, 1, io.BytesIO(content)) == size
    with store.open_log(RUN, 1) as file:
        assert file.read() == content
        assert file.seek(-1, os.SEEK_END) == max(0, size - 1) if size else True
        if size:
            assert file.read() == content[-1:]
            assert file.seek(size // 2) == size // 2
            assert file.read(10) == content[size // 2 :][:10]
    assert store.usage(RUN) == size


class _Breaks(io.RawIOBase):
    # A source that fails after `size` bytes.
    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self.left:
            raise ConnectionResetError("the client is gone")
        piece = bytes(min(size, self.left))
        self.left -= len(piece)
        return piece


@pytest.mark.parametrize("size", [MIB, 20 * MIB])
def test_a_source_that_breaks_off_leaves_what_was_there(store: Store, size: int) -> None:
    with pytest.raises(ConnectionResetError):
        store.put_input(RUN, _Breaks(size))  # type: ignore[arg-type]
    with pytest.raises(StoredNotFound):
        store.open_input(RUN)
    store.put_input(RUN, io.BytesIO(b"first"))
    with pytest.raises(ConnectionResetError):
        store.put_input(RUN, _Breaks(size))  # type: ignore[arg-type]
    with store.open_input(RUN) as file:
        assert file.read() == b"first"


def test_nothing_is_seen_while_it_is_written(store: Store, store_url: str) -> None:
    reader = open_store(store_url)
    looks = []

    class Source(io.RawIOBase):
        left = 20

        def read(self, size: int = -1) -> bytes:
            with pytest.raises(StoredNotFound):
                reader.open_input(RUN)
            looks.append(list(store._objects.keys(f"runs/{RUN}")))
            self.left -= 1
            return bytes(MIB) if self.left else b""

    store.put_input(RUN, Source())  # type: ignore[arg-type]
    assert looks == [[]] * 20
    assert reader.usage(RUN) == 19 * MIB
    reader.close()


def test_artifacts_are_listed_and_opened_as_on_one_machine(store: Store, folder: Path) -> None:
    local = ArtifactStore(folder.parent / "artifacts")
    folder.rename(local.folder(RUN))
    assert store.put_artifacts(RUN, 1, local.folder(RUN)) == local.list(RUN)
    assert store.list_artifacts(RUN, 1) == local.list(RUN)
    for path in ("", "reports", "reports/", "reports/empty", "."):
        assert store.open_artifact(RUN, 1, path) == local.open(RUN, path)
    for path in ("result.txt", "nothing", "reports/large.bin", "./reports//large.bin"):
        mine, theirs = store.open_artifact(RUN, 1, path), local.open(RUN, path)
        assert isinstance(mine, OpenFile)
        assert isinstance(theirs, OpenFile)
        assert (mine.name, mine.bytes, mine.etag) == (theirs.name, theirs.bytes, theirs.etag)
        assert _read(mine) == _read(theirs)


def test_a_range_of_an_artifact(store: Store, folder: Path) -> None:
    store.put_artifacts(RUN, 1, folder)
    content = (folder / "reports" / "large.bin").read_bytes()
    opened = store.open_artifact(RUN, 1, "reports/large.bin")
    assert isinstance(opened, OpenFile)
    with opened.handle as file:
        file.seek(2 * MIB - 3)
        assert file.read(7) == content[2 * MIB - 3 :][:7]
        file.seek(0)
        assert file.read(3) == content[:3]
        file.seek(-5, os.SEEK_END)
        # The end of the file is not the end of the object it lies in.
        assert file.read() == content[-5:]
        assert file.read() == b""


def test_all_contents_in_one_pass(store: Store, folder: Path) -> None:
    store.put_artifacts(RUN, 1, folder)
    found = {}
    for entry, file in store.artifacts(RUN, 1).contents():
        found[entry.path] = None if file is None else file.handle.read()
    assert found == {
        "nothing": b"",
        "reports": None,
        "reports/empty": None,
        "reports/large.bin": (folder / "reports" / "large.bin").read_bytes(),
        "result.txt": b"42\n",
    }


@pytest.mark.parametrize(
    "name",
    [
        b"\xff\xfe",
        b"%FF",
        b"a b?c#d",
        b"line\nbreak",
        b"[*]?",
        b"..hidden",
        b"c:\\x",
        "ä€𝄞".encode(),
        b"x" * 255,
    ],
)
def test_names_that_a_key_could_not_have(store: Store, folder: Path, name: bytes) -> None:
    (folder / os.fsdecode(name)).write_bytes(b"content of " + name)
    local = ArtifactStore(folder.parent / "artifacts")
    folder.rename(local.folder(RUN))
    entries = store.put_artifacts(RUN, 1, local.folder(RUN))
    assert entries == local.list(RUN)
    [listed] = [entry.path for entry in entries if entry.bytes == 11 + len(name)]
    if not listed.startswith("c:"):
        assert _read(store.open_artifact(RUN, 1, listed)) == b"content of " + name
        assert _read(store.open_artifact(RUN, 1, os.fsdecode(name))) == b"content of " + name


@pytest.mark.parametrize("path", ["../input", "/etc/passwd", "%2e%2e/input", "a/..\\..", "x\0"])
def test_paths_that_lead_out_are_refused(store: Store, folder: Path, path: str) -> None:
    store.put_artifacts(RUN, 1, folder)
    with pytest.raises(InvalidPath):
        store.open_artifact(RUN, 1, path)


@pytest.mark.parametrize("path", ["missing", "result.txt/x", "reports/missing", "artifacts.json", "\ud800"])
def test_paths_of_nothing(store: Store, folder: Path, path: str) -> None:
    store.put_artifacts(RUN, 1, folder)
    with pytest.raises(ArtifactNotFound):
        store.open_artifact(RUN, 1, path)


@pytest.mark.parametrize("run_id", ["", ".", "..", "../x", "a/b", ".hidden", "a\0", "x" * 129, "a*", "ä"])
def test_ids_of_no_run(store: Store, run_id: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.put_input(run_id, io.BytesIO(b"")),
        lambda: store.open_log(run_id, 1),
        lambda: store.evict(run_id),
        lambda: store.delete(run_id),
    ]
    for call in calls:
        with pytest.raises(InvalidPath):
            call()


def test_links_and_pipes_are_not_followed(store: Store, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    listed = {entry.path for entry in store.put_artifacts(RUN, 1, folder)}
    assert not listed & {"link", "up", "pipe"}
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    with pytest.raises(OSError, match="linked"):
        store.put_artifacts(RUN, 2, linked)


def test_artifacts_of_attempts_are_apart(store: Store, folder: Path, tmp_path: Path) -> None:
    store.put_artifacts(RUN, 2, folder)
    store.put_log(RUN, 2, io.BytesIO(b"second"))
    # The first host comes back, and does not know that its attempt is no longer the run's.
    late = tmp_path / "late"
    late.mkdir()
    (late / "result.txt").write_text("late")
    store.put_artifacts(RUN, 1, late)
    store.put_log(RUN, 1, io.BytesIO(b"first"))
    assert _read(store.open_artifact(RUN, 2, "result.txt")) == b"42\n"
    with store.open_log(RUN, 2) as file:
        assert file.read() == b"second"


def test_artifacts_that_are_stored_again_replace_the_first(store: Store, folder: Path) -> None:
    store.put_log(RUN, 1, io.BytesIO(b"log"))
    store.put_artifacts(RUN, 1, folder)
    before = store.usage(RUN)
    (folder / "reports" / "large.bin").unlink()
    store.put_artifacts(RUN, 1, folder)
    assert store.usage(RUN) < before - 3 * MIB
    with pytest.raises(ArtifactNotFound):
        store.open_artifact(RUN, 1, "reports/large.bin")
    with store.open_log(RUN, 1) as file:
        assert file.read() == b"log"


def test_a_run_that_extracted_nothing(store: Store, tmp_path: Path) -> None:
    assert store.put_artifacts(RUN, 1, tmp_path / "missing") == ()
    assert store.open_artifact(RUN, 1, "") == ()


def test_eviction_takes_the_artifacts_and_deletion_everything(store: Store, folder: Path) -> None:
    store.put_input(RUN, io.BytesIO(b"input"))
    store.put_log(RUN, 1, io.BytesIO(b"log"))
    store.put_artifacts(RUN, 1, folder)
    store.put_log("other", 1, io.BytesIO(b"other"))
    assert sorted(store.runs()) == [RUN, "other"]
    store.evict(RUN)
    assert store.usage(RUN) == len(b"input" + b"log")
    assert store.list_artifacts(RUN, 1) == ()
    with pytest.raises(StoredNotFound):
        store.open_artifact(RUN, 1, "result.txt")
    store.delete(RUN)
    store.delete(RUN)
    assert store.usage(RUN) == 0
    assert list(store.runs()) == ["other"]


def test_an_index_of_a_newer_version(store: Store) -> None:
    store._objects.write(f"runs/{RUN}/1/artifacts.json", [b'{"format": 2}'])
    with pytest.raises(StoreUnavailable, match="format 2, this light-run knows 1"):
        store.artifacts(RUN, 1)


_GROWTH = """
import resource, sys
from light_run.store.opening import open_store
class Source:
    left = int(sys.argv[2])
    def read(self, size):
        piece = bytes(min(size, self.left))
        self.left -= len(piece)
        return piece
store = open_store(sys.argv[1])
store.put_input("warm", open("/dev/null", "rb"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert store.put_input("large", Source()) == int(sys.argv[2])
with store.open_input("large") as file:
    # Not all of it: for each range, moto copies the whole object.
    for _ in range(24):
        assert len(file.read(1 << 20)) == 1 << 20
store.delete("large")
store.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_input_takes_no_memory(store_url: str) -> None:
    command = [sys.executable, "-c", _GROWTH, store_url, str(128 * MIB)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    # In KiB: a part that is sent, its copies on the way, and what is read ahead, far less than the object.
    assert int(done.stdout) < 80 * 1024
