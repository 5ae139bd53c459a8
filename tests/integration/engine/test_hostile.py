"""What hostile containers leave in their workdir: nothing of the host comes out, and nothing stays behind."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from light_run import Runner, RunSpec
from light_run.engine import Destinations, Reason, RunnerConfig, RunResult
from tests.integration.engine.conftest import StartRunner, nothing_of
from tests.support.abilities import under_test
from tests.support.engine import BUSYBOX, NOSHELL, PYTHON
from tests.support.poll import eventually

SECRET = Path("/etc/shadow")

# Everything that must not come out, beside some that may; written where the program is started.
HOSTILE = r"""
import os, socket
os.mkdir("out"); os.chdir("out")
os.makedirs("real/deep")
open("good", "w").write("good")
open("real/deep/good", "w").write("deep")
for name, target in {
    "to-shadow": "/etc/shadow", "to-root": "/", "to-init": "/proc/1/root", "to-host": "/proc/1/root/etc/shadow",
    "up": "..", "up-far": "../" * 20 + "etc/shadow", "loop": "loop", "dangling": "no-such-file",
    "to-good": "good", "to-real": "real", "to-self": ".", "to-proc": "/proc/self/environ",
}.items():
    os.symlink(target, name)
os.symlink("/", "real/root")
os.link("good", "hard")
os.link("good", "real/hard")
os.mkfifo("fifo")
bound = socket.socket(socket.AF_UNIX); bound.bind("socket"); bound.close()
for device, kind in {"null": 0x2000, "disk": 0x6000}.items():
    try:
        os.mknod(device, 0o666 | kind, os.makedev(1, 3))
    except PermissionError:
        pass
for name in (b"-rf", b"new\nline", b"n" * 255, b"not-utf8-\xff", b"back\\..\\slash", b"..name", b"*"):
    open(name, "w").write("odd")
os.makedirs("closed/below"); open("closed/below/f", "w").write("closed")
os.chmod("closed/below/f", 0o600); os.chmod("closed/below", 0o700); os.chmod("closed", 0o700)
open("unreadable", "w").write("own"); os.chmod("unreadable", 0)
open("setuid", "w").write("own"); os.chmod("setuid", 0o6777)
os.mkdir("locked"); open("locked/f", "w").write("own"); os.chmod("locked", 0)
"""
ODD = {b"-rf", b"new\nline", b"n" * 255, b"not-utf8-\xff", b"back\\..\\slash", b"..name", b"*"}
REGULAR = {
    b"good": b"good",
    b"hard": b"good",
    b"real/deep/good": b"deep",
    b"real/hard": b"good",
    b"closed/below/f": b"closed",
    b"unreadable": b"own",
    b"setuid": b"own",
    b"locked/f": b"own",
    **dict.fromkeys(ODD, b"odd"),
}


def files_of(folder: Path) -> dict[bytes, bytes]:
    """The files below `folder`; fails for what is neither file nor directory, or open to others."""
    found = {}
    top = os.fsencode(folder)
    for parent, directories, names in os.walk(top):
        for name in directories + names:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode), path
            assert not status.st_mode & 0o7022, path
            if stat.S_ISREG(status.st_mode):
                # Two files have names in common: those of "good", and all of these are here.
                assert status.st_nlink in (1, 3), path
                with open(path, "rb") as file:
                    found[os.path.relpath(path, top)] = file.read()
    return found


def run(runner: Runner, artifacts: Path, entrypoint: str, *extract: str, **fields: Any) -> RunResult:
    fields = {"image": PYTHON, "network": "none", **fields}
    spec = RunSpec(entrypoint=entrypoint, extract=extract, **fields)
    return runner.run(spec, to=Destinations(artifacts=artifacts))


# --- as whoever runs the tests ----------------------------------------------------------------------------


@pytest.mark.engines("hostile")
@pytest.mark.parametrize("extract", ["out", "."])
def test_only_what_is_regular_comes_out(runner: Runner, artifacts: Path, extract: str) -> None:
    result = run(runner, artifacts, "python3 m.py", extract, files={"m.py": HOSTILE})
    assert result.succeeded, result
    assert [one.status for one in result.extracted] == ["ok"], result.extracted
    found = files_of(artifacts)
    if extract == ".":
        assert found.pop(b"m.py") == HOSTILE.encode()
        found = {path.removeprefix(b"out/"): data for path, data in found.items()}
    assert found == REGULAR
    told = {os.fsencode(one.path): one.bytes for one in result.artifacts if one.type == "file"}
    # One file has three names, and counts once.
    assert sum(told.values()) == result.extracted[0].bytes + 2 * len(b"good")


LINKS = ("to-shadow", "to-root", "to-init", "to-host", "up-far", "loop", "dangling", "to-proc")
THROUGH_LINKS = ("to-root/etc/shadow", "to-init/etc/shadow", "real/root/etc/shadow")
SPECIAL = ("fifo", "socket", "null", "disk")
ENTRIES = tuple(f"out/{name}" for name in (*LINKS, *THROUGH_LINKS, *SPECIAL))


@pytest.mark.engines("hostile")
def test_entries_of_that_kind_give_nothing_of_the_host(runner: Runner, artifacts: Path) -> None:
    result = run(runner, artifacts, "python3 m.py", *ENTRIES, files={"m.py": HOSTILE})
    assert result.succeeded, result
    assert [one.path for one in result.extracted] == list(ENTRIES)
    # By archive the engine may follow a link on the way, inside the container: its image has no shadow.
    if under_test().follows_links:
        assert {one.path for one in result.extracted if one.status == "ok"} <= {"out/to-root"}
        assert not [path for path in files_of(artifacts) if path.endswith(b"shadow")]
        return
    assert {one.status for one in result.extracted} <= {"error", "missing"}, result.extracted
    assert not artifacts.exists()


def test_what_is_swapped_until_the_last_moment(runner: Runner, tmp_path: Path) -> None:
    program = (
        "mkdir -p out/d; echo own >out/d/shadow; echo own >out/f; ln -s /etc out/l; ln -s /etc/shadow out/s\n"
        "( while :; do mv out/d out/x; mv out/l out/d; mv out/d out/l; mv out/x out/d;"
        "  mv out/f out/x; mv out/s out/f; mv out/f out/s; mv out/x out/f; done ) &\n"
        "sleep 0.$(( $$ % 3 + 1 ))\n"
    )
    for number in range(3):
        artifacts = tmp_path / f"artifacts-{number}"
        result = run(runner, artifacts, program, "out", "out/d/shadow", "out/f", image=BUSYBOX)
        assert result.succeeded, result
        assert set(files_of(artifacts).values()) <= {b"own\n"}


@pytest.mark.engines("hostile")
def test_a_process_that_goes_on_behind_the_main_one(runner: Runner, artifacts: Path) -> None:
    program = "( trap '' TERM HUP INT; while :; do echo x >>f; done ) & sleep 0.2; exit 3"
    result = run(runner, artifacts, program, "f", image=BUSYBOX)
    assert (result.reason, result.exit_code) == (Reason.EXIT, 3)
    assert set(files_of(artifacts)) == {b"f"}


@pytest.mark.engines("hostile")
@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("cd d; i=0; while [ $i -lt 300 ]; do : >$i; i=$((i+1)); done", "200"),
        ("truncate -s 5G d/sparse", "larger"),
        ("head -c 3000000 /dev/zero >d/f", "larger"),
        ("cd d; i=0; while [ $i -lt 150 ]; do mkdir n; cd n; i=$((i+1)); done", "nested"),
    ],
    ids=["entries", "sparse", "bytes", "depth"],
)
def test_more_than_the_caps(capped: Runner, artifacts: Path, program: str, words: str) -> None:
    result = run(capped, artifacts, f"mkdir d; {program}; echo x >/tmp/good", "d", "/tmp/good", image=BUSYBOX)
    assert result.succeeded, result
    (large, good) = result.extracted
    assert large.status == "error"
    assert words in str(large.error)
    assert good.status == ("error" if words == "200" else "ok")
    used = sum(path.lstat().st_blocks * 512 for path in artifacts.rglob("*"))
    assert used < 4 << 20


@pytest.fixture(params=["bind", "archive"])
def capped(request: pytest.FixtureRequest, start_runner: StartRunner) -> Runner:
    """A runner of small caps."""
    return start_runner(workspace=request.param, extract_cap=1 << 20, extract_entries=200)


def test_a_sparse_file_within_the_cap_takes_no_disk(runner: Runner, artifacts: Path) -> None:
    result = run(runner, artifacts, "truncate -s 200M sparse; echo end >>sparse", "sparse", image=BUSYBOX)
    assert [one.status for one in result.extracted] == ["ok"]
    found = (artifacts / "sparse").stat()
    assert found.st_size == 200 * (1 << 20) + 4
    assert found.st_blocks * 512 < 4 << 20


def test_the_whole_container(runner: Runner, artifacts: Path) -> None:
    result = run(runner, artifacts, "true", "/", image=BUSYBOX, files={"f": "mine"})
    assert result.succeeded, result
    # All of it, in its folders, and not a byte of the host's.
    found = files_of(artifacts)
    assert found[b"etc/passwd"].startswith(b"root:x:0:0:root:/root:/bin/sh\nnobody:")
    assert found[b"app/f"] == b"mine"
    assert SECRET.read_bytes() not in found.values()


@pytest.mark.engines("hostile")
def test_folders_of_the_kernel_s(runner: Runner, artifacts: Path) -> None:
    entries = ("/proc", "/sys", "/dev", "/proc/self/environ", "/proc/1/root/etc/shadow", "/dev/zero")
    result = run(runner, artifacts, "true", *entries, image=BUSYBOX)
    assert result.succeeded, result
    assert not any(files_of(artifacts).values())


@pytest.mark.engines("hostile")
def test_what_cannot_be_there_is_missing(runner: Runner, artifacts: Path) -> None:
    entries = ("/etc/passwd/x", "f/x", "/nowhere", "nowhere/x", "a\0b", "/\ud800")
    result = run(runner, artifacts, "true", *entries, image=BUSYBOX, files={"f": "x"})
    assert [one.status for one in result.extracted] == ["missing"] * len(entries), result.extracted


# --- as a user of the engine's group ----------------------------------------------------------------------


@contextmanager
def as_member_of(group: int) -> Iterator[None]:
    """Be an ordinary user who may use the engine."""
    groups = os.getgroups()
    os.setgroups([group])
    os.setegid(12345)
    os.seteuid(12345)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.fixture
def ordinary(start_ordinary: Any) -> Runner:
    """A runner with mounted workspaces that an ordinary user runs."""
    found: Runner = start_ordinary()
    return found


@pytest.fixture
def start_ordinary() -> Iterator[Any]:
    """Make runners of an ordinary user; each leaves nothing. The test is that user, too."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    if os.geteuid() or not stat.S_ISSOCK(os.stat(address).st_mode):
        pytest.skip("root is needed to be somebody else, and an engine on this host")
    group = os.stat(address).st_gid
    with ExitStack() as cleanup:
        cleanup.enter_context(as_member_of(group))
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(address)
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))

        def start(**settings: Any) -> Runner:
            name = f"test-{uuid.uuid4()}"
            settings = {"workspace": "bind", "parked_max": 0, "state_dir": folder / name, **settings}
            config = RunnerConfig(server_id=name, **settings)
            cleanup.callback(lambda: eventually(lambda: nothing_of(config), "nothing is left", within=20))
            return cleanup.enter_context(Runner(config))

        yield start


@pytest.fixture
def own_artifacts(ordinary: Runner) -> Path:
    """Where that user's artifacts go."""
    assert ordinary.config.state_dir is not None
    return ordinary.config.state_dir / "artifacts"


def test_what_root_closed_off_comes_out_and_goes(ordinary: Runner, own_artifacts: Path) -> None:
    result = run(ordinary, own_artifacts, "python3 m.py", "out", files={"m.py": HOSTILE})
    assert [one.status for one in result.extracted] == ["ok"], result
    assert files_of(own_artifacts) == REGULAR


@pytest.mark.parametrize("extract", ["closed", "closed/f", "f"])
def test_single_entries_that_root_closed_off(ordinary: Runner, own_artifacts: Path, extract: str) -> None:
    program = "umask 077; mkdir closed; echo x >closed/f; echo x >f"
    result = run(ordinary, own_artifacts, program, extract, image=BUSYBOX)
    assert [one.status for one in result.extracted] == ["ok"], result
    assert files_of(own_artifacts) == {b"f": b"x\n"}


def test_the_workdir_itself_taken_away(ordinary: Runner, own_artifacts: Path) -> None:
    result = run(ordinary, own_artifacts, "echo x >f; chown 0:0 .; chmod 700 .", "f", image=BUSYBOX)
    assert [one.status for one in result.extracted] == ["ok"], result
    assert files_of(own_artifacts) == {b"f": b"x\n"}


def test_many_folders_of_root_s(ordinary: Runner, own_artifacts: Path) -> None:
    program = "import os\nos.umask(0o77)\nfor n in range(1500): os.makedirs(f'{n:0200}/d')"
    result = run(ordinary, own_artifacts, "python3 m.py", files={"m.py": program})
    assert result.succeeded, result


def test_parked_ones_are_the_same(start_ordinary: Any) -> None:
    runner = start_ordinary(parked_max=4, parked_pins={BUSYBOX: 1}, default_network="none")
    runner.open()
    eventually(lambda: runner.parked == 1, "one is parked")
    artifacts = runner.config.state_dir / "artifacts"
    result = run(runner, artifacts, "umask 077; mkdir d; echo x >d/f", "d", image=BUSYBOX)
    assert result.parked
    assert files_of(artifacts) == {b"f": b"x\n"}


@pytest.mark.parametrize(
    "closed",
    [
        "mkdir -m 700 d; exec >d/f",
        "mkdir -m 744 d; exec >d/f",
        "exec >f; chown 0:0 .; chmod 700 .",
        "mkdir -m 700 0 1 2 3 4 5 6 7 8 9; exec >9/f",
    ],
    ids=["folder", "names only", "workdir", "many"],
)
def test_the_disk_is_not_filled_behind_closed_doors(start_ordinary: Any, closed: str) -> None:
    runner = start_ordinary(workspace_cap=5 << 20)
    program = f"{closed}; head -c 50000000 /dev/urandom; sleep 600"
    result = runner.run(RunSpec(image=BUSYBOX, network="none", entrypoint=program, timeout=120.0))
    assert result.reason is Reason.DISK_LIMIT, result


@pytest.mark.parametrize(
    ("file", "network"), [("hosts", "none"), ("hostname", "none"), ("resolv.conf", "bridge")]
)
def test_the_disk_is_not_filled_by_what_is_mounted_in_etc(
    start_ordinary: Any, file: str, network: str
) -> None:
    runner = start_ordinary(workspace_cap=5 << 20)
    program = f"head -c 50000000 /dev/urandom >/etc/{file}; sleep 600"
    result = runner.run(RunSpec(image=BUSYBOX, network=network, entrypoint=program, timeout=120.0))
    assert result.reason is Reason.DISK_LIMIT, result


def test_closed_doors_are_no_fault(start_ordinary: Any) -> None:
    runner = start_ordinary(workspace_cap=5 << 20)
    program = "mkdir -m 700 d; head -c 1000000 /dev/urandom >d/f; sleep 3"
    assert runner.run(RunSpec(image=BUSYBOX, network="none", entrypoint=program)).succeeded


def test_files_go_in_to_any_user(ordinary: Runner, own_artifacts: Path) -> None:
    result = run(
        ordinary,
        own_artifacts,
        "cat a d/b; echo c >>a; echo new >d/new; id -u",
        "a",
        image="light-run-test/nonroot:latest",
        files={"a": "a\n", "d/b": "b\n"},
    )
    assert result.logs == ("a", "b", "1000")
    assert files_of(own_artifacts) == {b"a": b"a\nc\n"}


def test_an_image_without_a_shell(ordinary: Runner, own_artifacts: Path) -> None:
    result = ordinary.run(RunSpec(image=NOSHELL, network="none", files={"f": "x"}))
    assert result.logs == ("hello from no shell",)
