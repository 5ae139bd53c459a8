"""What was asked to be extracted, from the workspace or the engine's archive, and what became of it."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from light_run.engine.daemon.client import Engine
from light_run.engine.files.collect import Collector
from light_run.engine.files.extract import ArtifactFolder
from light_run.engine.files.workspace import Workspace
from light_run.engine.spec import ExtractResult, RunSpec
from light_run.engine.stop import StopRequest
from light_run.errors import Cancelled, EngineError, EngineRefused, EngineUnavailable
from tests.unit.engine.trees import as_nobody, content_of

MIB = 1024 * 1024


class Archive(Engine):
    """An engine that archives a folder of this host as if it were the container's root."""

    def __init__(self, root: Path, failure: EngineError | None = None) -> None:
        super().__init__()
        self._root = root
        self._failure = failure
        self.asked: list[str] = []

    @contextmanager
    def get_archive(self, container: str, path: str) -> Iterator[Iterator[bytes]]:
        self.asked.append(path)
        if self._failure is not None:
            raise self._failure
        source = self._root / path.lstrip("/")
        if not os.path.lexists(source):
            raise EngineRefused(404, f"Could not find the file {path} in container")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(source, arcname=source.name)
        yield iter([buffer.getvalue()])


class Scene:
    """A container whose workdir /app is, or is not, a mounted folder."""

    def __init__(self, top: Path) -> None:
        self.root = top / "root"
        self.out = top / "out"
        self.workspace = Workspace(top / "run")
        self.workspace.create()
        self.root.mkdir()
        self.engine = Archive(self.root)

    def collect(
        self, *extract: str, mounted: bool = True, cap: int = MIB, stop: StopRequest | None = None
    ) -> tuple[ExtractResult, ...]:
        """Extract, with a cap on each entry."""
        spec = RunSpec(image="x", extract=extract, workdir="/app")
        folder = ArtifactFolder(self.out, cap, 100)
        workspace = self.workspace if mounted else None
        collector = Collector(self.engine, "container", spec, workspace, folder)
        return collector.collect(stop or StopRequest())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_what_lies_in_the_workdir_comes_from_the_workspace(scene: Scene) -> None:
    (scene.workspace.files / "f").write_bytes(b"12345")
    for entry in ("f", "./f", "/app/f", "/app//./f"):
        assert scene.collect(entry) == (ExtractResult(entry, "ok", 5),)
    assert scene.engine.asked == []
    assert content_of(scene.out) == {b"f": b"12345"}


def test_what_lies_elsewhere_comes_by_archive(scene: Scene) -> None:
    (scene.root / "tmp").mkdir()
    (scene.root / "tmp" / "f").write_bytes(b"12345")
    (scene.root / "apple").write_bytes(b"1")
    assert scene.collect("/tmp/f", "/apple") == (
        ExtractResult("/tmp/f", "ok", 5),
        ExtractResult("/apple", "ok", 1),
    )
    assert scene.engine.asked == ["/tmp/f", "/apple"]


def test_without_a_mount_everything_comes_by_archive(scene: Scene) -> None:
    (scene.root / "app").mkdir()
    (scene.root / "app" / "f").write_bytes(b"12345")
    assert scene.collect("f", mounted=False) == (ExtractResult("f", "ok", 5),)
    assert scene.engine.asked == ["/app/f"]


@pytest.mark.parametrize("mounted", [True, False])
@pytest.mark.parametrize("entry", ["none", "/none", "a\0b", "/a\0b", "\ud800", "/\ud800", "none/x"])
def test_what_is_missing(scene: Scene, mounted: bool, entry: str) -> None:
    assert scene.collect(entry, mounted=mounted) == (ExtractResult(entry, "missing"),)


def test_below_a_file_there_is_nothing(scene: Scene) -> None:
    (scene.workspace.files / "f").write_bytes(b"")
    words = "lstat /var/lib/docker/overlay2/abc/merged/etc/passwd/x: not a directory"
    scene.engine = Archive(scene.root, EngineRefused(500, words))
    found = scene.collect("f/x", "/etc/passwd/x")
    assert [one.status for one in found] == ["missing", "missing"]


@pytest.mark.parametrize("mounted", [True, False])
def test_what_is_no_file(scene: Scene, mounted: bool) -> None:
    (scene.root / "app").mkdir()
    for folder in (scene.workspace.files, scene.root / "app"):
        (folder / "link").symlink_to("/etc/passwd")
        os.mkfifo(folder / "fifo")
    for found in scene.collect("link", "fifo", mounted=mounted):
        assert found.status == "error"
        assert found.error
        assert found.bytes == 0
    assert not scene.out.exists()


def test_one_that_fails_does_not_stop_the_others(scene: Scene) -> None:
    (scene.workspace.files / "large").write_bytes(b"x" * 100)
    (scene.workspace.files / "small").write_bytes(b"x")
    found = scene.collect("none", "large", "small", cap=50)
    assert [one.status for one in found] == ["missing", "error", "ok"]
    assert "50" in str(found[1].error)
    assert content_of(scene.out) == {b"small": b"x"}


def test_what_came_before_a_failure_is_counted(scene: Scene) -> None:
    (scene.workspace.files / "d").mkdir()
    for name in ("a", "b", "c"):
        (scene.workspace.files / "d" / name).write_bytes(b"x" * 30)
    (found,) = scene.collect("d", cap=70)
    assert (found.status, found.bytes) == ("error", 60)


def test_an_engine_that_refuses(scene: Scene) -> None:
    scene.engine = Archive(scene.root, EngineRefused(500, "something broke"))
    (found,) = scene.collect("/tmp")
    assert (found.status, "something broke" in str(found.error)) == ("error", True)


def test_an_engine_that_is_gone_is_no_matter_of_one_entry(scene: Scene) -> None:
    scene.engine = Archive(scene.root, EngineUnavailable("gone"))
    with pytest.raises(EngineUnavailable):
        scene.collect("/tmp")


def test_what_this_process_may_not_read_comes_by_archive() -> None:
    if os.geteuid():
        pytest.skip("root is needed to be somebody else")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        with as_nobody():
            scene = Scene(Path(name))
        # Some of it may be read, so that it came out once before the rest was refused.
        for folder in (scene.workspace.files, scene.root / "app"):
            (folder / "d").mkdir(parents=True)
            (folder / "d" / "open").write_bytes(b"12")
            (folder / "d" / "closed").write_bytes(b"345")
        (scene.workspace.files / "d" / "closed").chmod(0o600)
        with as_nobody():
            assert scene.collect("d", "d/open") == (
                ExtractResult("d", "ok", 5),
                ExtractResult("d/open", "ok", 2),
            )
        assert scene.engine.asked == ["/app/d"]
        assert content_of(scene.out) == {b"open": b"12", b"closed": b"345"}


# --- cancelled in the middle ------------------------------------------------------------------------------


def test_a_cancel_before_it_begins(scene: Scene) -> None:
    stop = StopRequest()
    stop.request()
    with pytest.raises(Cancelled):
        scene.collect("f", stop=stop)


@pytest.mark.parametrize("mounted", [True, False])
@pytest.mark.parametrize("kind", ["one large file", "many files"])
def test_a_cancel_in_the_middle_of_an_entry(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, kind: str, mounted: bool
) -> None:
    folder = scene.workspace.files if mounted else scene.root / "app"
    (folder / "d").mkdir(parents=True)
    for number in range(20 if kind == "many files" else 1):
        (folder / "d" / f"{number}").write_bytes(b"x" * (10 if kind == "many files" else 4 * MIB))
    stop = StopRequest()
    checks = 0

    def cancel_at_the_third() -> None:
        nonlocal checks
        checks += 1
        if checks == 3:
            stop.request()
        StopRequest.check(stop)

    monkeypatch.setattr(stop, "check", cancel_at_the_third)
    with pytest.raises(Cancelled):
        scene.collect("d", cap=100 * MIB, stop=stop, mounted=mounted)
    assert checks == 3
    # A file that was begun is not left half written.
    assert all(len(data or b"") in (0, 10) for data in content_of(scene.out).values())
