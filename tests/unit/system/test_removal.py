"""Removing trees that somebody hostile laid out: all of it goes, and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from light_run.system.removal import remove_tree
from tests.unit.engine.trees import ODD_NAMES, as_nobody, make_hostile


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("kept")
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture(autouse=True)
def outside_is_untouched(tmp_path: Path, root: Path) -> Iterator[None]:
    yield
    # Deeper than pytest's own clean-up can go, where a test has failed.
    remove_tree(root)
    assert (tmp_path / "secret").read_text() == "secret"
    assert (tmp_path / "outside" / "kept").read_text() == "kept"
    assert (tmp_path / "outside").stat().st_mode & 0o7777 == 0o755


def test_a_hostile_tree(root: Path, tmp_path: Path) -> None:
    make_hostile(root, tmp_path)
    remove_tree(root)
    assert not root.exists()


def test_odd_names(root: Path) -> None:
    for name in ODD_NAMES:
        directory = os.path.join(os.fsencode(root), name)
        os.mkdir(directory)
        with open(os.path.join(directory, name), "wb"):
            pass
    remove_tree(root)
    assert not root.exists()


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o500, 0o1777])
def test_directories_without_permissions(root: Path, mode: int) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "f").write_text("x")
    for path in (root / "a" / "b", root / "a", root):
        path.chmod(mode)
    remove_tree(root)
    assert not root.exists()


def test_one_s_own_directories_without_permissions_need_no_root() -> None:
    if os.geteuid():
        pytest.skip("the test above is the same")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        with as_nobody():
            (Path(name) / "root" / "a" / "b").mkdir(parents=True)
            (Path(name) / "root" / "a" / "b").chmod(0)
            (Path(name) / "root" / "a").chmod(0)
            remove_tree(Path(name) / "root")
        assert os.listdir(name) == []


def test_what_belongs_to_somebody_else_is_said_to_stay() -> None:
    if os.geteuid():
        pytest.skip("root is needed to be somebody else")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        root = Path(name) / "root"
        with as_nobody():
            root.mkdir()
        (root / "closed").mkdir(mode=0o700)
        (root / "closed" / "f").write_text("x")
        with as_nobody(), pytest.raises(PermissionError):
            remove_tree(root)
        assert (root / "closed" / "f").read_text() == "x"


def test_what_belongs_to_somebody_else_and_is_empty_goes() -> None:
    if os.geteuid():
        pytest.skip("root is needed to be somebody else")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        root = Path(name) / "root"
        with as_nobody():
            root.mkdir()
        (root / "closed").mkdir(mode=0o700)
        with as_nobody():
            remove_tree(root)
        assert not root.exists()


def test_depth_and_length_of_paths_are_not_in_the_way(root: Path) -> None:
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(root)
        for _ in range(1200):
            os.mkdir("n" * 100)
            os.chdir("n" * 100)
        with open("f", "wb"):
            pass
    finally:
        os.fchdir(before)
        os.close(before)
    remove_tree(root)
    assert not root.exists()


def test_names_that_are_taken_further_up(root: Path) -> None:
    for path in ("a/a/a", "a/b/a", "b/a/b"):
        (root / path).mkdir(parents=True)
        (root / path / "f").write_text("x")
    remove_tree(root)
    assert not root.exists()


def test_a_wide_tree_holds_few_descriptors(root: Path) -> None:
    for number in range(500):
        (root / f"d{number}").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    remove_tree(root)
    assert not root.exists()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("kind", ["missing", "file", "link", "link to a directory", "dangling"])
def test_what_is_no_directory(root: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    targets = {"link": "secret", "link to a directory": "outside", "dangling": "nothing"}
    if kind == "file":
        path.write_text("x")
    elif kind in targets:
        path.symlink_to(targets[kind])
    remove_tree(path)
    assert not os.path.lexists(path)


def test_a_directory_swapped_for_a_link_before_it_is_opened_up(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A container that could not be removed may go on while its folder is.
    (root / "d").mkdir(mode=0o000)
    chmod = os.chmod

    def swapping(path: str, mode: int, *, dir_fd: int | None = None) -> None:
        (root / "d").rmdir()
        (root / "d").symlink_to(tmp_path / "outside")
        chmod(path, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "chmod", swapping)
    with pytest.raises(NotADirectoryError):
        remove_tree(root)
    monkeypatch.undo()
    remove_tree(root)
    assert not root.exists()


def test_a_directory_that_is_swapped_for_a_link_all_the_time(root: Path, tmp_path: Path) -> None:
    # A container that could not be removed may go on while its folder is.
    stop = threading.Event()
    outside = tmp_path / "outside"

    def swap() -> None:
        while not stop.is_set():
            try:
                os.mkdir(root / "d", 0o000)
                os.rmdir(root / "d")
                os.symlink(outside, root / "d")
                os.unlink(root / "d")
            except OSError:
                continue

    outside.chmod(0o755)
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(300):
            root.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):
                remove_tree(root)
    finally:
        stop.set()
        thread.join()
        shutil.rmtree(root, ignore_errors=True)
