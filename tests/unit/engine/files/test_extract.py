"""Files out of a tree that somebody hostile laid out, by both ways: a mounted folder and an archive."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from light_run.engine.files.extract import ArtifactFolder, ExtractError, from_folder
from light_run.system.disk_usage import disk_usage
from tests.unit.engine.trees import (
    ODD_NAMES,
    REGULAR,
    SECRET,
    as_nobody,
    assert_told_truly,
    bind_socket,
    content_of,
    make_hostile,
    take_from_archive,
    take_from_folder,
)

Take = Callable[[Path, tuple[str, ...], ArtifactFolder], None]

MIB = 1024 * 1024
CAP = 16 * MIB
ENTRIES = 1000


@pytest.fixture(params=[take_from_folder, take_from_archive])
def take(request: pytest.FixtureRequest) -> Take:
    """Both ways, one after the other."""
    found: Take = request.param
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What the container had at its workdir; the folder above it has a secret."""
    (tmp_path / "secret").write_bytes(SECRET)
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where artifacts go; it is not there yet."""
    return tmp_path / "artifacts" / "run"


@pytest.fixture
def into(folder: Path) -> Iterator[ArtifactFolder]:
    """The artifact folder, in which nothing is but what is told, when the test is over."""
    into = ArtifactFolder(folder, CAP, ENTRIES)
    yield into
    if folder.exists():
        assert_told_truly(folder, into)
        assert SECRET not in content_of(folder).values()


# --- what comes out ---------------------------------------------------------------------------------------


def test_a_file_lands_as_its_basename(take: Take, root: Path, folder: Path, into: ArtifactFolder) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "c.txt").write_bytes(b"content")
    take(root, ("a", "b", "c.txt"), into)
    assert content_of(folder) == {b"c.txt": b"content"}
    assert into.entry_bytes == 7


def test_a_directory_s_contents_land_directly(
    take: Take, root: Path, folder: Path, into: ArtifactFolder
) -> None:
    (root / "out" / "sub" / "empty").mkdir(parents=True)
    (root / "out" / "sub" / "f").write_bytes(b"12")
    (root / "out" / "nothing").write_bytes(b"")
    take(root, ("out",), into)
    assert content_of(folder) == {b"sub": None, b"sub/empty": None, b"sub/f": b"12", b"nothing": b""}


def test_an_empty_directory_is_no_failure(take: Take, root: Path, into: ArtifactFolder) -> None:
    (root / "out").mkdir()
    take(root, ("out",), into)
    assert into.artifacts == ()


def test_the_whole_workdir(root: Path, folder: Path, into: ArtifactFolder) -> None:
    (root / "f").write_bytes(b"x")
    from_folder(root, (), into)
    assert content_of(folder) == {b"f": b"x"}


def test_artifacts_are_told_in_order_of_path(take: Take, root: Path, into: ArtifactFolder) -> None:
    (root / "d" / "b").mkdir(parents=True)
    for name in ("z", "b/y", "a", "b.txt"):
        (root / "d" / name).write_bytes(b"")
    take(root, ("d",), into)
    assert [one.path for one in into.artifacts] == ["a", "b", "b/y", "b.txt", "z"]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 65535, 262144, 262145, 3 * MIB + 1])
def test_bytes_are_the_same(take: Take, root: Path, folder: Path, into: ArtifactFolder, size: int) -> None:
    data = os.urandom(size)
    (root / "f").write_bytes(data)
    take(root, ("f",), into)
    assert content_of(folder) == {b"f": data}


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("mode", [0o000, 0o777, 0o6755, 0o1777])
def test_modes_are_the_server_s_own(take: Take, root: Path, folder: Path, mode: int, umask: int) -> None:
    if os.geteuid() and not mode & 0o400:
        pytest.skip("root is needed to read what nobody may")
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(b"x")
    (root / "d" / "f").chmod(mode)
    (root / "d").chmod(mode | 0o700)
    before = os.umask(umask)
    try:
        take(root, (), ArtifactFolder(folder, CAP, ENTRIES))
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "d").stat().st_mode) == 0o750 & ~umask
    assert stat.S_IMODE((folder / "d" / "f").stat().st_mode) == 0o640 & ~umask


def test_a_sparse_file_does_not_fill_the_disk(take: Take, root: Path, folder: Path, tmp_path: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.truncate(96 * MIB)
        file.seek(50 * MIB + 5)
        file.write(b"data in the middle")
    into = ArtifactFolder(folder, 100 * MIB, ENTRIES)
    take(root, ("sparse",), into)
    found = (folder / "sparse").stat()
    assert found.st_size == 96 * MIB == into.entry_bytes
    assert found.st_blocks * 512 < 2 * MIB
    with (folder / "sparse").open("rb") as file:
        file.seek(50 * MIB)
        assert file.read(30) == bytes(5) + b"data in the middle" + bytes(7)


# --- what does not ----------------------------------------------------------------------------------------


def test_of_a_hostile_tree_only_what_is_regular(
    take: Take, root: Path, folder: Path, into: ArtifactFolder, tmp_path: Path
) -> None:
    make_hostile(root, tmp_path)
    take(root, (), into)
    assert content_of(folder) == REGULAR


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_but_names(
    take: Take, root: Path, folder: Path, into: ArtifactFolder, name: bytes
) -> None:
    directory = os.path.join(os.fsencode(root), b"d")
    os.makedirs(os.path.join(directory, name))
    with open(os.path.join(directory, name, name), "wb") as file:
        file.write(b"x")
    take(root, ("d",), into)
    assert content_of(folder) == {name: None, os.path.join(name, name): b"x"}
    take(root, ("d", os.fsdecode(name), os.fsdecode(name)), ArtifactFolder(folder / "alone", CAP, ENTRIES))
    assert content_of(folder / "alone") == {name: b"x"}
    shutil.rmtree(folder / "alone")


@pytest.mark.parametrize("name", ["to-secret", "to-outside", "to-root", "to-good", "to-real", "loop"])
def test_a_link_is_not_followed_to_the_entry(
    root: Path, into: ArtifactFolder, tmp_path: Path, name: str
) -> None:
    make_hostile(root, tmp_path)
    with pytest.raises(ExtractError, match="symbolic link"):
        from_folder(root, (name,), into)
    assert into.artifacts == ()


@pytest.mark.parametrize(
    "parts",
    [
        ("to-outside", "secret"),
        ("to-root", "etc", "passwd"),
        ("up", "secret"),
        ("to-real", "deep", "good"),
        ("to-self", "good"),
        ("to-self", "to-self", "real"),
        ("real", "link", "secret"),
        ("loop", "x"),
        ("dangling", "x"),
    ],
)
def test_a_link_on_the_way_is_not_followed(
    root: Path, into: ArtifactFolder, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    make_hostile(root, tmp_path)
    (root / "real" / "link").symlink_to(tmp_path)
    with pytest.raises(ExtractError, match="symbolic link"):
        from_folder(root, parts, into)
    assert into.artifacts == ()


def test_names_of_one_file_are_names_of_one_file(root: Path, folder: Path, take: Take) -> None:
    (root / "d").mkdir()
    (root / "one").write_bytes(b"x" * MIB)
    for number in range(20):
        os.link(root / "one", root / f"{number}")
    os.link(root / "one", root / "d" / "two")
    # All of them together are larger than the cap.
    into = ArtifactFolder(folder, 2 * MIB, ENTRIES)
    take(root, (), into)
    assert into.entry_bytes == MIB
    assert (folder / "one").stat().st_nlink == 22
    assert disk_usage(str(folder)).bytes < 2 * MIB
    assert_told_truly(folder, into)


def test_a_name_that_was_taken_by_another_file_is_not_linked_to(root: Path, folder: Path) -> None:
    for name in ("a", "b"):
        (root / name).mkdir()
    (root / "a" / "f").write_bytes(b"shared")
    os.link(root / "a" / "f", root / "shared")
    (root / "b" / "f").write_bytes(b"other")
    into = ArtifactFolder(folder, CAP, ENTRIES)
    for entry in (("a",), ("b",), ("shared",)):
        from_folder(root, entry, into)
    assert content_of(folder) == {b"f": b"other", b"shared": b"shared"}


def test_links_that_the_file_system_refuses_are_copies(
    root: Path, folder: Path, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMLINK, "Too many links")

    (root / "one").write_bytes(b"data")
    os.link(root / "one", root / "two")
    into = ArtifactFolder(folder, CAP, ENTRIES)
    monkeypatch.setattr(os, "link", refuse)
    take(root, (), into)
    assert content_of(folder) == {b"one": b"data", b"two": b"data"}
    assert into.entry_bytes == 8


@pytest.mark.parametrize("name", ["fifo", "socket", "null", "zero", "disk"])
def test_what_is_no_file_is_named_and_not_opened(
    root: Path, into: ArtifactFolder, tmp_path: Path, name: str
) -> None:
    make_hostile(root, tmp_path)
    if not (root / name).exists():
        pytest.skip("root is needed to make a device")
    with pytest.raises(ExtractError, match=r"pipe|socket|device"):
        from_folder(root, (name,), into)


@pytest.mark.parametrize(
    "parts", [("none",), ("none", "x"), ("good", "x"), ("real", "none"), ("fifo", "x"), ("n" * 255,)]
)
def test_what_is_missing(root: Path, into: ArtifactFolder, tmp_path: Path, parts: tuple[str, ...]) -> None:
    make_hostile(root, tmp_path)
    with pytest.raises(FileNotFoundError):
        from_folder(root, parts, into)


# --- swapped while it is looked at ------------------------------------------------------------------------


class Meddler(ArtifactFolder):
    """Runs `meddle` once, in the middle: when the first file is taken and the others were listed."""

    meddle: Callable[[], None] | None = None

    def add_file(self, *arguments: object) -> None:
        if self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            meddle()
        super().add_file(*arguments)  # type: ignore[arg-type]


def to_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "secret")


def to_fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def to_socket(path: Path, outside: Path) -> None:
    bind_socket(path)


def to_directory(path: Path, outside: Path) -> None:
    path.mkdir()


def to_directory_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def to_nothing(path: Path, outside: Path) -> None:
    pass


SWAPS = [to_link, to_directory_link, to_fifo, to_socket, to_directory, to_nothing]


@pytest.mark.parametrize("swap", SWAPS)
def test_files_swapped_after_they_were_listed(
    root: Path, folder: Path, tmp_path: Path, swap: Callable[[Path, Path], None]
) -> None:
    for number in range(10):
        (root / f"f{number}").write_bytes(b"own")
    into = Meddler(folder, CAP, ENTRIES)

    def meddle() -> None:
        for path in list(root.iterdir()):
            path.unlink()
            swap(path, tmp_path)

    into.meddle = meddle
    from_folder(root, (), into)
    # The one that was open already came out as it was.
    assert list(content_of(folder).values()) == [b"own"]
    assert_told_truly(folder, into)


@pytest.mark.parametrize("swap", [*SWAPS[:4], to_nothing])
def test_directories_swapped_after_they_were_listed(
    root: Path, folder: Path, tmp_path: Path, swap: Callable[[Path, Path], None]
) -> None:
    for number in range(10):
        (root / f"d{number}").mkdir()
        (root / f"d{number}" / "secret").write_bytes(b"own")
    into = Meddler(folder, CAP, ENTRIES)

    def meddle() -> None:
        for path in list(root.iterdir()):
            shutil.rmtree(path)
            swap(path, tmp_path)

    into.meddle = meddle
    from_folder(root, (), into)
    found = content_of(folder)
    assert [data for data in found.values() if data is not None] == [b"own"]
    assert_told_truly(folder, into)


def test_a_file_that_grows_while_it_is_read_is_held_to_the_cap(root: Path, folder: Path) -> None:
    (root / "f").write_bytes(b"x")
    into = Meddler(folder, MIB, ENTRIES)
    into.meddle = lambda: os.truncate(root / "f", 2 * MIB)
    with pytest.raises(ExtractError, match="larger"):
        from_folder(root, ("f",), into)
    assert content_of(folder) == {}
    assert_told_truly(folder, into)


def test_a_tree_that_never_holds_still(root: Path, tmp_path: Path) -> None:
    # A directory, a link to the outside and a file change places for as long as it is looked at.
    for name in ("d", "e"):
        (root / "out" / name).mkdir(parents=True)
        (root / "out" / name / "secret").write_bytes(b"own")
    (root / "out" / "link").symlink_to(tmp_path)
    (root / "out" / "f").symlink_to(tmp_path / "secret")
    (root / "out" / "g").write_bytes(b"own")
    stop = threading.Event()

    def swap() -> None:
        out = os.fspath(root / "out")
        while not stop.is_set():
            for one, other in (("d", "link"), ("f", "g")):
                os.rename(f"{out}/{one}", f"{out}/tmp")
                os.rename(f"{out}/{other}", f"{out}/{one}")
                os.rename(f"{out}/tmp", f"{out}/{other}")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in range(100):
            folder = tmp_path / f"artifacts-{number}"
            into = ArtifactFolder(folder, CAP, ENTRIES)
            for parts in ((), ("out",), ("out", "d", "secret"), ("out", "f")):
                try:
                    from_folder(root, parts, into)
                except (ExtractError, OSError):
                    continue
            assert set(content_of(folder).values()) <= {None, b"own"}
            assert_told_truly(folder, into)
    finally:
        stop.set()
        thread.join()


# --- caps -------------------------------------------------------------------------------------------------


def test_an_entry_of_just_the_cap(take: Take, root: Path, folder: Path) -> None:
    (root / "d").mkdir()
    for name in ("a", "b"):
        (root / "d" / name).write_bytes(b"x" * 50)
    into = ArtifactFolder(folder, 100, ENTRIES)
    take(root, ("d",), into)
    assert into.entry_bytes == 100
    # The next entry counts anew.
    take(root, ("d",), into)
    assert_told_truly(folder, into)


def test_an_entry_past_the_cap(take: Take, root: Path, folder: Path) -> None:
    (root / "d").mkdir()
    for name in ("a", "b", "c"):
        (root / "d" / name).write_bytes(b"x" * 50)
    into = ArtifactFolder(folder, 149, ENTRIES)
    with pytest.raises(ExtractError, match="149"):
        take(root, ("d",), into)
    # What came before it stays, and is told.
    assert into.entry_bytes == 100
    assert sum(len(data or b"") for data in content_of(folder).values()) == 100
    assert_told_truly(folder, into)


def test_a_sparse_file_past_the_cap_is_not_even_read(take: Take, root: Path, folder: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.truncate(MIB + 1)
    into = ArtifactFolder(folder, MIB, ENTRIES)
    with pytest.raises(ExtractError, match="larger"):
        take(root, ("sparse",), into)
    assert into.artifacts == ()


@pytest.mark.parametrize("kind", ["files", "directories", "deep"])
def test_more_entries_than_the_cap(take: Take, root: Path, folder: Path, kind: str) -> None:
    top = root / "d"
    top.mkdir()
    for number in range(30):
        if kind == "files":
            (top / f"{number}").write_bytes(b"")
        else:
            (top / "/".join(map(str, range(number + 1))) if kind == "deep" else top / f"{number}").mkdir()
    into = ArtifactFolder(folder, CAP, 20)
    with pytest.raises(ExtractError, match="20"):
        take(root, ("d",), into)
    assert len(into.artifacts) == 20
    assert_told_truly(folder, into)


def test_what_is_no_artifact_is_not_looked_at_for_ever(take: Take, root: Path, folder: Path) -> None:
    (root / "links").mkdir()
    for number in range(49):
        (root / "links" / f"{number}").symlink_to("nowhere")
    take(root, ("links",), ArtifactFolder(folder, CAP, 5))
    with pytest.raises(ExtractError, match="more than 40 names to look at"):
        take(root, ("links",), ArtifactFolder(folder, CAP, 4))


@pytest.mark.parametrize("make", [os.mkfifo, partial(os.symlink, "nowhere")])
def test_a_cancel_is_heard_over_what_is_no_artifact(
    take: Take, root: Path, folder: Path, make: Callable[[Path], None]
) -> None:
    (root / "d").mkdir()
    for number in range(20):
        make(root / "d" / f"{number}")
    into, heard = ArtifactFolder(folder, CAP, ENTRIES), []
    into.check = lambda: heard.append(1)
    take(root, ("d",), into)
    assert len(heard) >= 20


def test_the_cap_on_entries_is_one_for_all(take: Take, root: Path, folder: Path) -> None:
    for name in ("a", "b", "c"):
        (root / name).write_bytes(b"")
    into = ArtifactFolder(folder, CAP, 2)
    take(root, ("a",), into)
    take(root, ("b",), into)
    # One that is there already counts once.
    take(root, ("a",), into)
    with pytest.raises(ExtractError, match="2"):
        take(root, ("c",), into)
    assert [one.path for one in into.artifacts] == ["a", "b"]
    assert_told_truly(folder, into)


@pytest.mark.parametrize("depth", [100, 101, 300])
def test_deep_nesting(take: Take, root: Path, folder: Path, depth: int) -> None:
    path = os.fspath(root)
    directory = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    into = ArtifactFolder(folder, CAP, ENTRIES)
    if depth <= 100:
        take(root, (), into)
    else:
        with pytest.raises(ExtractError, match="nested"):
            take(root, (), into)
    assert len(into.artifacts) == 100
    assert_told_truly(folder, into)


def test_nesting_does_not_cost_a_descriptor_a_level(root: Path, folder: Path) -> None:
    # Some hundred runs may be extracted at the same time, each as deep as its owner liked.
    (root / "/".join("d" * 99)).mkdir(parents=True)
    (root / "/".join("d" * 99) / "f").write_bytes(b"x")
    most = 0

    class Counting(ArtifactFolder):
        def add_file(self, *arguments: object) -> None:
            nonlocal most
            most = len(os.listdir("/proc/self/fd"))
            super().add_file(*arguments)  # type: ignore[arg-type]

    before = len(os.listdir("/proc/self/fd"))
    from_folder(root, (), Counting(folder, CAP, ENTRIES))
    assert 0 < most - before < 20


# --- several entries --------------------------------------------------------------------------------------


def test_the_later_of_two_of_one_name_wins(
    take: Take, root: Path, folder: Path, into: ArtifactFolder
) -> None:
    for name, data in (("a", b"first, and longer"), ("b", b"second")):
        (root / name).mkdir()
        (root / name / "f").write_bytes(data)
    take(root, ("a", "f"), into)
    take(root, ("b", "f"), into)
    assert content_of(folder) == {b"f": b"second"}


def test_a_file_where_a_directory_is_and_the_other_way_round(
    take: Take, root: Path, folder: Path, into: ArtifactFolder
) -> None:
    (root / "1" / "x").mkdir(parents=True)
    (root / "1" / "x" / "f").write_bytes(b"in a directory")
    (root / "2").mkdir()
    (root / "2" / "x").write_bytes(b"a file")
    take(root, ("1",), into)
    with pytest.raises(OSError, match="directory"):
        take(root, ("2",), into)
    assert content_of(folder) == {b"x": None, b"x/f": b"in a directory"}
    other = ArtifactFolder(folder / "other", CAP, ENTRIES)
    take(root, ("2",), other)
    with pytest.raises(OSError, match="directory"):
        take(root, ("1",), other)
    assert content_of(folder / "other") == {b"x": b"a file"}
    assert_told_truly(folder / "other", other)
    shutil.rmtree(folder / "other")


def test_a_second_one_that_fails_is_not_told_as_the_first(root: Path, folder: Path) -> None:
    for name, data in (("a", b"first"), ("b", b"second")):
        (root / name).mkdir()
        (root / name / "f").write_bytes(data)
    into = Meddler(folder, 10, ENTRIES)
    from_folder(root, ("a", "f"), into)
    into.meddle = lambda: os.truncate(root / "b" / "f", 100)
    with pytest.raises(ExtractError):
        from_folder(root, ("b", "f"), into)
    assert_told_truly(folder, into)


def test_a_folder_that_an_earlier_attempt_left_half_full(
    take: Take, root: Path, folder: Path, into: ArtifactFolder
) -> None:
    # A server was killed while it extracted; the next one does it again.
    (root / "d" / "sub").mkdir(parents=True)
    (root / "d" / "sub" / "f").write_bytes(b"whole")
    (folder / "sub").mkdir(parents=True, mode=0o700)
    (folder / "sub").chmod(0o700)
    (folder / "sub" / "f").write_bytes(b"wh")
    take(root, ("d",), into)
    assert content_of(folder) == {b"sub": None, b"sub/f": b"whole"}


@pytest.mark.parametrize("name", ["f", "sub"])
def test_a_link_in_the_artifact_folder_is_not_written_through(
    take: Take, root: Path, folder: Path, tmp_path: Path, name: str
) -> None:
    # Nobody but us writes there; if somebody did, nothing outside would change.
    (root / "d" / "sub").mkdir(parents=True)
    (root / "d" / "sub" / "secret").write_bytes(b"overwritten")
    (root / "d" / "f").write_bytes(b"overwritten")
    folder.mkdir(parents=True)
    (folder / name).symlink_to(tmp_path / "secret" if name == "f" else tmp_path)
    into = ArtifactFolder(folder, CAP, ENTRIES)
    try:
        take(root, ("d",), into)
    except OSError:
        assert name == "sub"
    assert (tmp_path / "secret").read_bytes() == SECRET


# --- failures ---------------------------------------------------------------------------------------------


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A folder that other users can reach, as pytest's own is not."""
    if os.geteuid():
        pytest.skip("root is needed to be somebody else")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        for folder in ("root", "artifacts"):
            os.mkdir(f"{name}/{folder}")
            os.chmod(f"{name}/{folder}", 0o777)
        yield Path(name)


@pytest.mark.parametrize("parts", [(), ("closed",), ("closed", "f"), ("d", "unreadable"), ("d",)])
def test_what_this_process_may_not_read(open_root: Path, parts: tuple[str, ...]) -> None:
    root = open_root / "root"
    (root / "closed").mkdir(mode=0o700)
    (root / "closed" / "f").write_bytes(b"x")
    (root / "d").mkdir()
    (root / "d" / "unreadable").write_bytes(b"x")
    (root / "d" / "unreadable").chmod(0o600)
    into = ArtifactFolder(open_root / "artifacts" / "run", CAP, ENTRIES)
    with as_nobody(), pytest.raises(PermissionError):
        from_folder(root, parts, into)


@pytest.mark.parametrize("soft", [0, 1, 2, 3, 4, 5, 6])
def test_no_descriptor_to_be_had_is_a_failure_and_not_a_missing_file(
    root: Path, folder: Path, soft: int
) -> None:
    (root / "d").mkdir()
    for number in range(5):
        (root / "d" / f"f{number}").write_bytes(b"x")
    into = ArtifactFolder(folder, CAP, ENTRIES)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + soft, limits[1]))
    try:
        from_folder(root, ("d",), into)
    except OSError as error:
        assert error.errno == errno.EMFILE  # noqa: PT017 - it may also succeed, with enough of them
    else:
        assert len(into.artifacts) == 5
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    if folder.exists():
        assert_told_truly(folder, into)


def test_a_full_disk(root: Path, folder: Path, into: ArtifactFolder) -> None:
    # Of a folder alone: the other way's archive is made on the disk, too, by the test.
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(os.urandom(MIB))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 2, hard))
    try:
        with pytest.raises(OSError, match="large"):
            from_folder(root, ("d",), into)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content_of(folder) == {}


@pytest.mark.parametrize(
    "parts", [(b"..",), (b".",), (b"",), (b"a", b"..", b"b"), (b"a/b",), (b"a\0b",), (b"/", b"x")]
)
def test_the_folder_itself_takes_no_name_that_leads_elsewhere(
    folder: Path, into: ArtifactFolder, parts: tuple[bytes, ...]
) -> None:
    for add in (into.add_directory, lambda parts: into.add_file(parts, 1, iter([b"x"]))):
        with pytest.raises(ExtractError, match="name"):
            add(parts)
    assert into.artifacts == ()
