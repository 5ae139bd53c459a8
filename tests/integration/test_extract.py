"""What comes out of a container, and what never does."""

from __future__ import annotations

import os
import stat
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.integration.conftest import StartServer
from tests.support.engine import NONROOT, PYTHON, WORKDIR
from tests.support.server import RunState, Server

SECRET = Path("/etc/shadow")

# Links of every kind, special files, and a name that a path may not have, beside one regular file.
HOSTILE = r"""
import os, socket
os.makedirs("out/real/deep"); os.chdir("out")
open("good", "w").write("good")
open("real/deep/good", "w").write("deep")
for name, target in {
    "to-shadow": "/etc/shadow", "to-root": "/", "to-host": "/proc/1/root/etc/shadow", "up": "..",
    "up-far": "../../../../../../etc/shadow", "loop": "loop", "dangling": "no-such-file",
    "to-good": "good", "to-dir": "real", "to-self": ".", "to-proc": "/proc/self",
}.items():
    os.symlink(target, name)
os.link("good", "hard")
os.mkfifo("fifo")
bound = socket.socket(socket.AF_UNIX); bound.bind("socket"); bound.close()
try:
    os.mknod("device", 0o600 | 0x2000, os.makedev(1, 5))
except PermissionError:
    pass
open("..name", "w").write("x")
open("name\\..\\evil", "w").write("x")
open("-rf", "w").write("x")
open("new\nline", "w").write("x")
open(b"not-utf8-\xff", "w").write("x")
open("n" * 255, "w").write("x")
"""


def host_tree(server: Server, run_id: str) -> dict[str, os.stat_result]:
    """Everything in a run's artifact folder on the host, no link followed."""
    root = os.fsencode(server.artifacts_dir / run_id)
    found = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(folder, name)
            found[os.fsdecode(os.path.relpath(path, root))] = os.lstat(path)
    return found


@pytest.fixture(scope="module")
def hostile(server: Server) -> RunState:
    """A run that leaves everything that must not come out."""
    return server.run(image=PYTHON, files={"m.py": HOSTILE}, entrypoint="python3 m.py", extract=["out"])


def test_a_hostile_tree_does_not_fail_the_run(hostile: RunState) -> None:
    assert hostile["status"] == "succeeded", hostile


def test_only_regular_files_and_folders_reach_the_host(server: Server, hostile: RunState) -> None:
    for name, found in host_tree(server, hostile["id"]).items():
        assert stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode), name
        if stat.S_ISREG(found.st_mode):
            assert found.st_nlink == (2 if name in ("good", "hard") else 1), name
            assert found.st_size <= 4, name


@pytest.mark.parametrize(
    "name",
    [
        "to-shadow",
        "to-root",
        "to-host",
        "up",
        "up-far",
        "loop",
        "dangling",
        "to-self",
        "to-proc",
        "fifo",
        "socket",
        "device",
    ],
)
def test_a_link_or_special_file_is_left_out(server: Server, hostile: RunState, name: str) -> None:
    assert name not in host_tree(server, hostile["id"])
    assert name not in {entry["path"] for entry in hostile["artifacts"]}
    assert server.artifact(hostile["id"], name).status_code == 404


def test_regular_files_beside_them_come_out(server: Server, hostile: RunState) -> None:
    assert server.artifact(hostile["id"], "good").content == b"good"
    assert server.artifact(hostile["id"], "real/deep/good").content == b"deep"
    assert server.artifact(hostile["id"], "..name").content == b"x"
    assert server.artifact(hostile["id"], "-rf").content == b"x"
    assert server.artifact(hostile["id"], "n" * 255).content == b"x"
    assert server.artifact(hostile["id"], "new%0Aline").content == b"x"


def test_a_name_in_invalid_utf8_can_be_downloaded(server: Server, hostile: RunState) -> None:
    response = server.artifact(hostile["id"], "not-utf8-%FF")
    assert (response.status_code, response.content) == (200, b"x")
    assert server.get(f"/runs/{hostile['id']}/artifacts").status_code == 200


def test_names_of_one_file_are_names_of_one_file_on_the_host(server: Server, hostile: RunState) -> None:
    found = host_tree(server, hostile["id"])
    assert found["good"].st_ino == found["hard"].st_ino
    # And it has no other.
    assert found["good"].st_nlink == 2


def test_the_archive_has_only_regular_files_and_folders(server: Server, hostile: RunState) -> None:
    content = server.get(f"/runs/{hostile['id']}/artifacts?archive=tar.gz").content
    with tarfile.open(fileobj=BytesIO(content), mode="r:gz") as archive:
        for member in archive:
            assert member.isfile() or member.isdir(), member.name
            assert not member.name.startswith("/")
            assert ".." not in member.name.split("/")


@pytest.mark.parametrize(
    ("make", "entry"),
    [
        ("ln -s /etc/shadow link", "link"),
        ("ln -s / link", "link/etc/shadow"),
        ("ln -s /proc/1/root link", "link/etc"),
        ("mkdir d; ln -s /etc d/link", "d/link/shadow"),
        ("ln -s /etc/shadow /tmp/link", "/tmp/link"),
        ("ln -s / /tmp/link", "/tmp/link/etc/shadow"),
        ("mkfifo fifo", "fifo"),
        ("mkfifo /tmp/fifo", "/tmp/fifo"),
    ],
)
def test_an_entry_that_is_no_file_gives_nothing_of_the_host(server: Server, make: str, entry: str) -> None:
    state = server.run(entrypoint=make, extract=[entry])
    assert state["status"] == "succeeded", state
    (extracted,) = state["extracted"]
    shadow = SECRET.read_bytes()
    for name, found in host_tree(server, state["id"]).items():
        assert not stat.S_ISLNK(found.st_mode)
        if stat.S_ISREG(found.st_mode):
            assert (server.artifacts_dir / state["id"] / name).read_bytes() != shadow
    assert extracted["status"] in ("error", "missing", "ok")


@pytest.mark.parametrize("entry", ["/dev/null", "/dev/zero", "/dev", "/proc/self/environ", "/proc", "/sys"])
def test_a_device_or_kernel_file_does_not_hang_the_run(server: Server, entry: str) -> None:
    state = server.run(entrypoint="true", extract=[entry])
    assert state["status"] == "succeeded", state
    for found in host_tree(server, state["id"]).values():
        assert stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)


def test_a_link_swapped_in_while_the_run_goes_on(server: Server) -> None:
    # Something keeps swapping folder and link until the very end.
    program = (
        "mkdir -p out/d; echo own > out/d/shadow\n"
        "( while :; do mv out/d out/e; ln -s /etc out/d; rm out/d; mv out/e out/d; done ) &\n"
        "sleep 0.5\n"
    )
    for _ in range(5):
        state = server.run(entrypoint=program, extract=["out", "out/d/shadow"])
        for name, found in host_tree(server, state["id"]).items():
            assert not stat.S_ISLNK(found.st_mode)
            if stat.S_ISREG(found.st_mode):
                assert (server.artifacts_dir / state["id"] / name).read_bytes() == b"own\n"


# --- what does come out ---------------------------------------------------------------------------------


def test_a_file_lands_as_its_basename(server: Server) -> None:
    state = server.run(entrypoint="mkdir -p a/b; echo x > a/b/c.txt", extract=["a/b/c.txt"])
    assert [entry["path"] for entry in state["artifacts"]] == ["c.txt"]


def test_the_contents_of_a_folder_land_directly(server: Server) -> None:
    state = server.run(entrypoint="mkdir -p a/b; echo x > a/b/c.txt", extract=["a"])
    assert {entry["path"] for entry in state["artifacts"]} == {"b", "b/c.txt"}


@pytest.mark.parametrize("entry", ["out.txt", "./out.txt", "/app/out.txt", "/app/./out.txt", "/app//out.txt"])
def test_every_spelling_of_a_path(server: Server, entry: str) -> None:
    state = server.run(entrypoint="echo x > out.txt", extract=[entry])
    assert server.artifact(state["id"], "out.txt").content == b"x\n"
    assert [(found["path"], found["status"]) for found in state["extracted"]] == [(entry, "ok")]


@pytest.mark.parametrize("entry", [".", "./", "/app", "/app/"])
def test_the_workdir_itself(server: Server, entry: str) -> None:
    state = server.run(files={"in": "in"}, entrypoint="echo x > out", extract=[entry])
    assert {found["path"] for found in state["artifacts"]} == {"in", "out"}


def test_a_path_outside_the_workdir(server: Server) -> None:
    state = server.run(
        entrypoint="echo x > /tmp/out.txt; mkdir -p /var/lib/made/deep; echo y > /var/lib/made/deep/f",
        extract=["/tmp/out.txt", "/var/lib/made", "/etc/passwd"],
    )
    assert [found["status"] for found in state["extracted"]] == ["ok", "ok", "ok"], state
    assert server.artifact(state["id"], "out.txt").content == b"x\n"
    assert server.artifact(state["id"], "deep/f").content == b"y\n"
    # The image's own, not the host's.
    assert server.artifact(state["id"], "passwd").content.count(b"\n") <= 3


def test_several_entries_in_one(server: Server) -> None:
    state = server.run(
        entrypoint="echo 1 > one; mkdir d; echo 2 > d/two; echo 3 > /tmp/three",
        extract=["one", "d", "/tmp/three", "gone"],
    )
    assert [found["status"] for found in state["extracted"]] == ["ok", "ok", "ok", "missing"]
    assert [found["path"] for found in state["extracted"]] == ["one", "d", "/tmp/three", "gone"]
    assert {found["path"] for found in state["artifacts"]} == {"one", "two", "three"}


def test_the_later_of_two_entries_of_one_name_wins(server: Server) -> None:
    state = server.run(entrypoint="mkdir a b; echo 1 > a/f; echo 2 > b/f", extract=["a/f", "b/f"])
    assert state["status"] == "succeeded"
    assert [found["path"] for found in state["artifacts"]] == ["f"]
    assert server.artifact(state["id"], "f").content in (b"1\n", b"2\n")


@pytest.mark.parametrize("entry", ["gone", "/gone", "/gone/deep", "main.txt/deep", "d/gone"])
def test_what_is_missing_is_no_failure(server: Server, entry: str) -> None:
    state = server.run(entrypoint="mkdir d", extract=[entry])
    assert state["status"] == "succeeded", state
    assert [(found["path"], found["status"]) for found in state["extracted"]] == [(entry, "missing")]
    assert "artifacts" not in state


def test_after_a_failure(server: Server) -> None:
    state = server.run(entrypoint="echo x > out; exit 3", extract=["out"])
    assert (state["status"], state["exitCode"]) == ("failed", 3)
    assert server.artifact(state["id"], "out").content == b"x\n"


def test_modes_of_extracted_files_let_the_server_and_nobody_else_write(server: Server) -> None:
    state = server.run(entrypoint="mkdir d; echo x > d/f; chmod 6777 d/f; chmod 777 d", extract=["."])
    for name, found in host_tree(server, state["id"]).items():
        assert not found.st_mode & 0o7022, (name, oct(found.st_mode))


def test_an_empty_folder_and_an_empty_file(server: Server) -> None:
    state = server.run(entrypoint="mkdir -p d/empty; : > d/nothing", extract=["d"])
    assert {(found["path"], found["type"], found["bytes"]) for found in state["artifacts"]} == {
        ("empty", "directory", 0),
        ("nothing", "file", 0),
    }


@pytest.mark.parametrize("image", [NONROOT, WORKDIR])
def test_from_other_images(server: Server, image: str) -> None:
    state = server.run(image=image, entrypoint="echo x > out", extract=["out", "/etc/group"])
    assert [found["status"] for found in state["extracted"]] == ["ok", "ok"]
    assert server.artifact(state["id"], "out").content == b"x\n"


def test_an_entry_past_the_cap_is_an_error_and_no_failure(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_EXTRACT_LIMIT": "100000"})
    state = server.run(
        entrypoint="head -c 200000 /dev/zero > large; truncate -s 5G sparse; echo x > small;"
        " head -c 200000 /dev/zero > /tmp/outside",
        extract=["large", "sparse", "small", "/tmp/outside"],
    )
    assert state["status"] == "succeeded", state
    assert [found["status"] for found in state["extracted"]] == ["error", "error", "ok", "error"], state
    assert all(found["error"] for found in state["extracted"] if found["status"] == "error")
    assert sum(found.st_size for found in host_tree(server, state["id"]).values()) < 300_000
