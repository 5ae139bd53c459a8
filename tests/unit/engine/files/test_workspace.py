"""Files in: where they land, who may read them, and what a tar of them holds."""

from __future__ import annotations

import os
import resource
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from light_run.engine.files.workspace import (
    Workspace,
    Workspaces,
    container_path,
    parts_below,
    relative_parts,
)
from light_run.engine.spec import MIB, File
from light_run.errors import InvalidSpec
from tests.unit.engine.trees import ODD_NAMES, make_hostile


@pytest.fixture(params=[0o022, 0o077, 0o027], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Lenient and strict umasks, one after the other."""
    mask: int = request.param
    before = os.umask(mask)
    yield mask
    os.umask(before)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "run")
    workspace.create()
    return workspace


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- paths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a", ("a",)),
        ("a/b/c", ("a", "b", "c")),
        ("./a", ("a",)),
        ("a/./b", ("a", "b")),
        ("a//b", ("a", "b")),
        ("a/", ("a",)),
        ("..a/b..", ("..a", "b..")),
        ("...", ("...",)),
        (".git/config", (".git", "config")),
        ("a\\b", ("a\\b",)),
        ("-rf", ("-rf",)),
        (" ", (" ",)),
        ("ünï\n", ("ünï\n",)),
    ],
)
def test_relative_paths(path: str, parts: tuple[str, ...]) -> None:
    assert relative_parts(path) == parts


@pytest.mark.parametrize(
    "path",
    ["", ".", "/", "./", "/a", "//a", "..", "../a", "a/..", "a/../b", "a/b/../../..", "./..", "a\0b", "\0"],
)
def test_paths_that_lead_elsewhere(path: str, workspace: Workspace) -> None:
    with pytest.raises(InvalidSpec) as raised:
        relative_parts(path)
    (fault,) = raised.value.faults
    assert fault.path == ("files", path)
    with pytest.raises(InvalidSpec):
        workspace.write({"good": "x", path: "x"})


@pytest.mark.parametrize(
    ("workdir", "path", "absolute"),
    [
        ("/app", "out", "/app/out"),
        ("/app", "./out/", "/app/out"),
        ("/app", ".", "/app"),
        ("/app", "/tmp/x", "/tmp/x"),
        ("/app/", "a//b", "/app/a/b"),
        ("/", "a", "/a"),
        ("/", ".", "/"),
        ("//app", "a", "/app/a"),
        ("/app", "//etc", "/etc"),
        ("/app", "/", "/"),
        ("/app/..", "x", "/x"),
    ],
)
def test_container_paths(workdir: str, path: str, absolute: str) -> None:
    assert container_path(workdir, path) == absolute


@pytest.mark.parametrize(
    ("folder", "path", "parts"),
    [
        ("/app", "/app", ()),
        ("/app", "/app/a/b", ("a", "b")),
        ("/app", "/apple", None),
        ("/app", "/", None),
        ("/app/b", "/app", None),
        ("/", "/a", ("a",)),
        ("/app/", "/app/a", ("a",)),
    ],
)
def test_what_lies_below(folder: str, path: str, parts: tuple[str, ...] | None) -> None:
    assert parts_below(folder, path) == parts


# --- writing ----------------------------------------------------------------------------------------------


def test_everything_above_the_files_is_closed_and_they_are_open(tmp_path: Path, umask: int) -> None:
    workspace = Workspaces(tmp_path / "state").of("run")
    workspace.create()
    workspace.write(
        {
            "f": "text",
            "d/e/f": b"bytes",
            "tool": File(b"#!/bin/sh\n", 0o755),
            "closed": File(b"x", 0o400),
            "private": File(b"x", 0o000),
        }
    )
    assert [mode(path) for path in (workspace.folder, workspace.folder.parent)] == [0o700, 0o700]
    assert {str(path.relative_to(workspace.folder)): mode(path) for path in workspace.folder.rglob("*")} == {
        "hosts": 0o644,
        "files": 0o777,
        "files/f": 0o666,
        "files/d": 0o777,
        "files/d/e": 0o777,
        "files/d/e/f": 0o666,
        "files/tool": 0o777,
        "files/closed": 0o666,
        "files/private": 0o666,
    }
    assert umask == os.umask(umask)


def test_content_is_as_given(workspace: Workspace) -> None:
    data = bytes(range(256)) * 5000
    workspace.write({"text": "ünï\r\n\0\U0001f600", "bytes": data, "file": File(data[::-1]), "empty": ""})
    assert tree(workspace.files) == {
        "text": "ünï\r\n\0\U0001f600".encode(),
        "bytes": data,
        "file": data[::-1],
        "empty": b"",
    }


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if b"\xff" not in name and b"\xed" not in name])
def test_odd_names(workspace: Workspace, name: bytes) -> None:
    path = os.fsdecode(name)
    workspace.write({f"{path}/{path}": "x", f"d/{path}": "y"})
    assert tree(workspace.files) == {f"{path}/{path}": b"x", f"d/{path}": b"y"}


def test_a_file_that_was_written_before_is_replaced(workspace: Workspace) -> None:
    workspace.write({"f": "first, and longer", "d/f": "1"})
    workspace.write({"f": "second", "d/g": "2"})
    assert tree(workspace.files) == {"f": b"second", "d/f": b"1", "d/g": b"2"}


@pytest.mark.parametrize("files", [{"a": "x", "a/b": "y"}, {"a/b": "y", "a": "x"}, {"n" * 256: "x"}])
def test_what_cannot_be_written_is_an_os_error(workspace: Workspace, files: dict[str, str]) -> None:
    with pytest.raises(OSError, match=r"directory|long"):
        workspace.write(files)


def test_a_full_disk(workspace: Workspace) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="large"):
            workspace.write({"f": "x" * 5000})
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        other = Workspace(workspace.folder.parent / "other")
        with pytest.raises(OSError, match="large"):
            other.create()
        assert not other.folder.exists()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.one_of(
        st.text("./ab\\", max_size=12),
        st.text(st.characters(codec="utf-8"), max_size=12),
    )
)
def test_no_path_leaves_the_folder(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    outer = tmp_path_factory.mktemp("outer")
    workspace = Workspace(outer / "run")
    workspace.create()
    before = tree(outer)
    try:
        workspace.write({path: "x"})
    except (InvalidSpec, OSError):
        assert tree(outer) == before
    else:
        assert len(tree(workspace.files)) == 1
        assert len(tree(outer)) == len(before) + 1


# --- folders ----------------------------------------------------------------------------------------------


def test_a_folder_is_copied_with_what_is_regular_in_it(
    workspace: Workspace, tmp_path: Path, umask: int
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "secret").write_text("secret")
    make_hostile(source, tmp_path)
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o711)
    (source / "real").chmod(0o700)
    workspace.write(source)
    assert tree(workspace.files) == {
        "good": b"good",
        "hard": b"good",
        "tool": b"#!/bin/sh\n",
        "real/deep/good": b"deep good",
        "real/hard": b"good",
    }
    for path in workspace.files.rglob("*"):
        assert mode(path) == (0o777 if path.is_dir() or path.name == "tool" else 0o666), path
    # The source is as it was.
    assert mode(source / "tool") == 0o711
    assert mode(source / "real") == 0o700


def test_a_folder_that_is_not_there(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        workspace.write(tmp_path / "none")


# --- archives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 6 * MIB])
def test_a_tar_has_files_and_folders_and_nothing_else(workspace: Workspace, umask: int, size: int) -> None:
    long = "n" * 200 + "/" + "m" * 200
    workspace.write({"f": b"x" * size, "d/tool": File(b"y", 0o755), "ünï\n": "z", long: "l"})
    packed = workspace.tar("app", opened=True, hosts=False)
    with packed as spool, tarfile.open(fileobj=spool, mode="r:") as tar:
        members = {member.name: member for member in tar}
        contents = {name: tar.extractfile(member) for name, member in members.items()}
        found = {name: file.read() for name, file in contents.items() if file is not None}
    assert found == {"app/f": b"x" * size, "app/d/tool": b"y", "app/ünï\n": b"z", f"app/{long}": b"l"}
    assert set(members) - set(found) == {"app", "app/d", "app/" + "n" * 200}
    for member in members.values():
        assert member.isreg() or member.isdir()
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mode == (0o777 if member.isdir() or member.name == "app/d/tool" else 0o666)


@pytest.mark.parametrize(
    ("name", "path"), [("srv/app", "srv/app/hosts"), ("", "hosts"), ("etc", "etc/hosts")]
)
def test_a_tar_into_a_folder_that_stays_as_it_is(workspace: Workspace, name: str, path: str) -> None:
    workspace.write({"hosts": "posted"})
    packed = workspace.tar(name, opened=False, hosts=True)
    with packed as spool, tarfile.open(fileobj=spool, mode="r:") as tar:
        members = list(tar)
        # Of two with one name the later one stays.
        found = {member.name: tar.extractfile(member) for member in members}
        contents = {name: file.read() for name, file in found.items() if file is not None}
    hosts = workspace.hosts.read_bytes()
    assert contents == {"etc/hosts": hosts, path: b"posted"}
    assert [(member.name, member.mode) for member in members] == [("etc/hosts", 0o644), (path, 0o666)]
    assert all((member.uid, member.gid) == (0, 0) for member in members)


def test_a_tar_takes_no_disk_when_it_is_over(workspace: Workspace) -> None:
    workspace.write({"f": b"x" * (6 * MIB)})
    with workspace.tar("", opened=False, hosts=True):
        pass
    assert sorted(os.listdir(workspace.folder)) == ["files", "hosts"]


# --- moving and removing ----------------------------------------------------------------------------------


def test_files_are_moved_whole(tmp_path: Path, workspace: Workspace) -> None:
    workspace.write({"f": "1", "d/e": "2", ".hidden": "3"})
    other = Workspace(tmp_path / "parked-1")
    other.create()
    workspace.move_into(other)
    assert tree(other.files) == {"f": b"1", "d/e": b"2", ".hidden": b"3"}
    assert tree(workspace.files) == {}


def test_a_move_is_undone_also_from_the_middle(tmp_path: Path, workspace: Workspace) -> None:
    workspace.write({"f": "1", "d/e": "2"})
    other = Workspace(tmp_path / "parked-1")
    other.create()
    workspace.move_into(other)
    # As if only one of them had been moved.
    os.rename(other.files / "f", workspace.files / "f")
    for _ in range(2):
        workspace.move_back()
        assert tree(workspace.files) == {"f": b"1", "d/e": b"2"}
    assert not other.folder.exists()


def test_a_workspace_that_was_never_moved_stays(workspace: Workspace) -> None:
    workspace.write({"f": "1"})
    workspace.move_back()
    assert tree(workspace.files) == {"f": b"1"}


def test_a_hostile_one_is_removed_and_nothing_else(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "secret").write_text("secret")
    make_hostile(workspace.files, tmp_path)
    (workspace.files / "closed").mkdir(mode=0o000)
    assert workspace.remove()
    assert not workspace.folder.exists()
    assert (tmp_path / "secret").read_text() == "secret"
    assert workspace.remove()


def test_a_temporary_folder_goes_with_its_last_user() -> None:
    workspaces = Workspaces(None)
    workspace = workspaces.of("run")
    workspace.create()
    assert workspace.files.is_dir()
    workspaces.close()
    assert not workspace.folder.parent.parent.exists()


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    Workspaces(tmp_path / "state").close()
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_one_left_is_told(tmp_path: Path) -> None:
    Workspaces(tmp_path).of("earlier").create()
    workspaces = Workspaces(tmp_path)
    workspaces.of("new").create()
    assert [path.name for path in workspaces.earlier] == ["earlier"]
