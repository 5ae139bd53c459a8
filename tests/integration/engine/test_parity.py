"""Parked or cold, by mounted folder or by archive: a run sees the same, and does the same.

Every test runs the same command all four ways. What counts is said in full where it is promised, and
else that there is no difference.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from light_run import Limits, RunSpec
from light_run.engine import Destinations, Reason, RunResult
from light_run.engine.output.spool import records
from tests.conftest import left_behind, open_descriptors
from tests.integration.engine.conftest import nothing_of
from tests.integration.engine.ways import LOG_CAP, WAYS, Way, shell_images, ways
from tests.support.engine import BUSYBOX, PYTHON
from tests.support.poll import eventually

# The first test waits for all that is parked and looked at for the others.
pytestmark = pytest.mark.timeout(400)

MIB = 1024 * 1024
SEEN = (Path(__file__).parent / "seen.py").read_text()
SHELLS = ("busybox", "python", "dash", "bash")
PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(autouse=True)
def nothing_left_in_this_process() -> None:
    """The runners of this module hold threads and connections from test to test; see `all_ways`."""


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, str]]:
    """Images by their shell."""
    with shell_images() as found:
        yield found


@pytest.fixture(scope="module")
def all_ways(tmp_path_factory: pytest.TempPathFactory, images: dict[str, str]) -> Iterator[dict[str, Way]]:
    """The four ways; when the last test is over, nothing is left of them, here or at the engine."""
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    with ways(tmp_path_factory.mktemp("ways"), list(images.values())) as found:
        yield found
    for way in found.values():
        eventually(lambda way=way: nothing_of(way.runner.config), f"nothing is left of {way.name}", within=20)  # type: ignore[misc]
    eventually(
        lambda: not left_behind(threads, descriptors), "no thread and no descriptor is left", within=20
    )


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, all_ways: dict[str, Way]) -> Way:
    """Each way."""
    return all_ways[request.param]


# --- memory ---------------------------------------------------------------------------------------------


def test_a_child_that_was_killed_at_the_memory_limit(way: Way) -> None:
    # Parked containers have the limits of most runs.
    command = "dd if=/dev/zero of=/dev/null bs=600M count=1; sleep 0.1; exit 0"
    result = way.run(BUSYBOX, command)
    assert (result.reason, result.exit_code, result.usage.oom_kills) == (Reason.EXIT, 0, 1), result
    assert way.run(BUSYBOX, "true").usage.oom_kills is None


# --- what a program sees ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(all_ways: dict[str, Way], images: dict[str, str]) -> dict[tuple[str, str], dict[str, Any]]:
    """What a program in an image with that shell sees, by shell and way."""
    found = {}
    for shell, image in images.items():
        if shell == "busybox":
            continue
        for name, way in all_ways.items():
            result = way.run(
                image,
                "python3 seen.py one 'two words'; exit 0",
                files={"seen.py": SEEN, "d/tool": "x"},
                env={"A": "1 'x' $(id)\n", "EMPTY": ""},
                stdin=b"the input",
            )
            assert result.succeeded, result
            found[shell, name] = json.loads(result.logs[0])
    return found


@pytest.mark.parametrize("shell", SHELLS[1:])
@pytest.mark.parametrize("name", [name for name in WAYS if name != "cold-bind"])
def test_there_is_no_difference(seen: dict[tuple[str, str], dict[str, Any]], shell: str, name: str) -> None:
    if (shell, name) not in seen:
        pytest.skip(f"this machine has no {shell}")
    here, there = dict(seen[shell, name]), dict(seen[shell, "cold-bind"])
    if name.endswith("archive"):
        # The one thing that may differ: whether what we bring is mounted.
        assert set(there.pop("mounts")) - set(here.pop("mounts")) == {"/app", "/etc/hosts"}
    assert here == there


def test_the_environment_is_just_this(seen: dict[tuple[str, str], dict[str, Any]]) -> None:
    for (shell, name), one in seen.items():
        own = {"A": "1 'x' $(id)\n", "EMPTY": ""}
        image = {"HOME": "/root", "LANG": "C.UTF-8", "PATH": PATHS}
        # What every shell adds for its children, and bash a little more.
        added = {"PWD": "/app", **({"SHLVL": "1"} if shell != "dash" else {})}
        if shell == "bash":
            added |= {"_": "/usr/bin/python3"}
            added |= {"OLDPWD": one["environment"]["OLDPWD"]} if "OLDPWD" in one["environment"] else {}
        assert one["environment"] == {**own, **image, **added}, (shell, name)


def test_the_rest_is_as_promised(seen: dict[tuple[str, str], dict[str, Any]]) -> None:
    for (shell, name), one in seen.items():
        where = f"{shell}, {name}"
        assert one["directory"] == "/app", where
        assert one["user"] == [[0, 0, 0], [0, 0, 0], [0]], where
        assert one["umask"] == 0o22, where
        assert one["descriptors"] == [0, 1, 2], where
        assert one["terminal"] == [False] * 3, where
        assert one["command"] == ["sh", "-c", "python3 seen.py one 'two words'; exit 0"], where
        assert one["own command"] == ["seen.py", "one", "two words"], where
        assert one["first process"] == "docker-init", where
        assert one["processes"] == [1], where
        assert one["cgroup"]["memory"] == str(512 * MIB), where
        assert one["cgroup"]["pids"] == "100", where
        assert one["interfaces"] == ["lo"], where
        assert one["limits"]["RLIMIT_CORE"] == [0, 0], where
        assert one["status"]["NoNewPrivs"] == "1", where
        assert one["status"]["Seccomp"] == "2", where
        assert one["host name"] == 12, where
        assert one["host name is in the environment"], where
        assert one["workdir"] == ["0o40777", 0, 0], where
        assert one["files"] == {"seen.py": ["0o100666", 0, 1], "d": ["0o40777", 0, 2]}, where
        assert one["temporary"] == [], where
        assert one["input"] == "the input", where


# --- what a program does ----------------------------------------------------------------------------------


def summary(result: RunResult) -> tuple[Any, ...]:
    # What was written to one stream and to the other may arrive in either order.
    return (result.reason, result.exit_code, result.error, tuple(sorted(result.logs)), result.logs_truncated)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself(all_ways: dict[str, Way], images: dict[str, str], shell: str) -> None:
    if shell not in images:
        pytest.skip(f"this machine has no {shell}")
    # What it was started with, not what it makes of it; then what it has to say of itself.
    entrypoint = (
        "tr '\\0' '\\n' </proc/$$/environ; echo; no-such-command-1 x; cd /no-such-place;"
        ' echo "$0" $# $-; set -u; echo $NOT_SET'
    )
    said = {}
    for name, way in all_ways.items():
        result = way.run(images[shell], entrypoint, env={"A": "1"})
        end = result.logs.index("")
        environment = dict(line.split("=", 1) for line in result.logs[:end] if "=" in line)
        assert len(environment.pop("HOSTNAME")) == 12
        environment.pop("LANG", None)
        if shell == "bash" and way.parked:
            # Bash tells whom it gives way to where it is, and how deep.
            assert environment.pop("_", "/usr/bin/sh").endswith("/sh")
            assert environment.pop("SHLVL", "0") == "0"
        assert environment == {"A": "1", "HOME": "/root", "PATH": PATHS}, (name, result)
        words = sorted(line for line in result.logs if "=" not in line)
        said[name] = (result.reason, result.exit_code, result.error, *words)
    assert len(set(said.values())) == 1, said
    assert any("not found" in str(word) for word in said["cold-bind"])


@pytest.mark.engines("parity")
def test_an_exit_code(way: Way) -> None:
    assert summary(way.run(BUSYBOX, "exit 42")) == (Reason.EXIT, 42, None, (), False)


def test_a_command_killed_by_a_signal(way: Way) -> None:
    assert way.run(BUSYBOX, "kill -9 $$").exit_code == 137


def test_a_syntax_error(all_ways: dict[str, Way]) -> None:
    found = {name: summary(way.run(BUSYBOX, "echo never; (")) for name, way in all_ways.items()}
    assert len(set(found.values())) == 1, found
    assert found["cold-bind"][1] != 0


@pytest.mark.engines("parity")
@pytest.mark.parametrize("stdin", [None, b"a line\nand no end", bytes(range(256)) * 100], ids=range(3))
def test_input_and_its_end(way: Way, stdin: bytes | None) -> None:
    result = way.run(BUSYBOX, "sha256sum; echo end of file", stdin=stdin)
    assert result.logs == (f"{hashlib.sha256(stdin or b'').hexdigest()}  -", "end of file")


def test_five_megabytes_of_input(way: Way) -> None:
    stdin = b"a line of input, and another\n" * (5 * MIB // 29)
    result = way.run(BUSYBOX, "sleep 0.3; tee copy | sha256sum; wc -c <copy", stdin=stdin)
    assert result.logs == (f"{hashlib.sha256(stdin).hexdigest()}  -", str(len(stdin)))


def test_input_that_nobody_reads(way: Way) -> None:
    result = way.run(BUSYBOX, "echo done", stdin=b"x" * (2 * MIB))
    assert summary(result) == (Reason.EXIT, 0, None, ("done",), False)


def test_input_is_read_line_by_line(way: Way) -> None:
    entrypoint = "read a; read b; echo [$a] [$b]; exec cat"
    result = way.run(BUSYBOX, entrypoint, stdin=b"one\ntwo\nthree\nfour")
    assert result.logs == ("[one] [two]", "three", "four")


@pytest.mark.engines("parity")
def test_output_and_its_order(way: Way) -> None:
    entrypoint = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done; printf 'no newline'"
    result = way.run(BUSYBOX, entrypoint)
    assert [line for line in result.logs if line.startswith("out")] == [f"out {i}" for i in range(1, 6)]
    assert [line for line in result.logs if line.startswith("err")] == [f"err {i}" for i in range(1, 6)]
    assert result.logs[-1] == "no newline"
    assert len(result.logs) == 11


@pytest.mark.engines("parity")
def test_bytes_of_the_output(way: Way, tmp_path: Path) -> None:
    program = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4000 + b'last'); sys.stdout.flush()"
    log = tmp_path / "log"
    way.run(PYTHON, f'python3 -c "{program}"', to=Destinations(log=log))
    with log.open("rb") as spool:
        assert b"".join(data for _, _, data in records(spool)) == bytes(range(256)) * 4000 + b"last"


def test_output_past_the_cap(way: Way) -> None:
    result = way.run(BUSYBOX, "yes 0123456789 | head -c 1500000; echo end >&2")
    assert (result.exit_code, result.logs_truncated) == (0, True)
    assert sum(len(line) + 1 for line in result.logs) == LOG_CAP + 1


@pytest.mark.engines("parity")
def test_a_timeout(way: Way) -> None:
    result = way.run(BUSYBOX, "echo up; echo x >f; sleep 60", timeout=3.0)
    assert (result.reason, result.exit_code, result.logs) == (Reason.TIMEOUT, None, ("up",))


def test_out_of_memory(way: Way) -> None:
    # The limit is of the container: what waited in it before is far below.
    result = way.run(PYTHON, "python3 -c 'x = bytearray(1 << 30)'", timeout=60.0)
    assert result.reason is Reason.OUT_OF_MEMORY


@pytest.mark.engines("parity")
def test_files_in_and_out(way: Way, tmp_path: Path) -> None:
    data = bytes(range(256)) * 12_000
    result = way.run(
        BUSYBOX,
        "sha256sum data; mkdir -p out/sub; cp data out/sub/copy; echo x >/tmp/elsewhere; ls -a . .hidden",
        files={"data": data, ".hidden/f": "", "dist/x": "y"},
        extract=("out", "/tmp/elsewhere", "dist", "gone"),
        to=Destinations(artifacts=tmp_path / "artifacts"),
    )
    assert result.logs[0] == f"{hashlib.sha256(data).hexdigest()}  data"
    assert [one.status for one in result.extracted] == ["ok", "ok", "ok", "missing"]
    assert {one.path: one.bytes for one in result.artifacts} == {
        "sub": 0,
        "sub/copy": len(data),
        "elsewhere": 2,
        "x": 1,
    }
    assert (tmp_path / "artifacts" / "sub" / "copy").read_bytes() == data


def test_the_loopback_interface_and_its_names(way: Way) -> None:
    program = "import socket; print(*sorted({each[4][0] for each in socket.getaddrinfo('localhost', 80)}))"
    script = f'python3 -c "{program}"; cut -s -d: -f1 /proc/net/dev; grep -w localhost /etc/hosts; '
    script += "echo 127.0.0.2 own >>/etc/hosts; tail -1 /etc/hosts; ls -l /etc/hosts | cut -c1-10"
    result = way.run(PYTHON, script)
    addresses, *rest = (line.strip() for line in result.logs)
    assert "127.0.0.1" in addresses.split()
    names = ("127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback")
    assert tuple(rest) == ("lo", *names, "127.0.0.2 own", "-rw-r--r--")


def test_variables_that_a_shell_makes_its_own(way: Way) -> None:
    # They take the cold path; nobody can tell but by the time.
    env = {"PWD": "/nowhere", "IFS": "x", "SHLVL": "7", "TMOUT": "1", "A": "1"}
    result = way.runner.run(
        RunSpec(image=BUSYBOX, entrypoint="tr '\\0' '\\n' </proc/$$/environ; true", env=env)
    )
    found = dict(line.split("=", 1) for line in result.logs)
    assert env.items() <= found.items()
    assert not result.parked


@pytest.mark.parametrize("env", [{"A": "x" * 100_000}, {"LC_ALL": "xx_XX.UTF-8"}])
def test_what_cannot_be_launched_goes_the_other_way(way: Way, env: dict[str, str]) -> None:
    ((name, value),) = env.items()
    result = way.runner.run(RunSpec(image=BUSYBOX, entrypoint=f'printf %s "${name}" | sha256sum', env=env))
    assert result.logs == (f"{hashlib.sha256(value.encode()).hexdigest()}  -",)
    assert not result.parked


# --- other settings than those of a pin -------------------------------------------------------------------


def test_a_kind_that_comes_to_be_parked_by_use(all_ways: dict[str, Way]) -> None:
    # Different in all that makes a kind from what is pinned.
    fields: dict[str, Any] = {
        "limits": Limits(memory=64 * MIB, cpus=0.5, pids=20),
        "workdir": "/srv/deep/er",
        "network": "none",
    }
    spec = RunSpec(image=PYTHON, entrypoint="python3 seen.py; exit 0", files={"seen.py": SEEN}, **fields)
    found = {}
    for name, way in all_ways.items():

        def this_way(way: Way = way) -> RunResult | None:
            result = way.runner.run(spec)
            assert result.succeeded, result
            return result if result.parked is way.parked else None

        result = eventually(this_way, "a run of this kind was parked", within=60)
        assert result is not None
        found[name] = json.loads(result.logs[0])
        found[name].pop("mounts")
    assert all(one == found["cold-bind"] for one in found.values()), found
    assert found["cold-bind"]["cgroup"]["memory"] == str(64 * MIB)
    assert found["cold-bind"]["cgroup"]["cpu"][0].split()[0] == "50000"
    assert found["cold-bind"]["cgroup"]["pids"] == "20"
    assert found["cold-bind"]["interfaces"] == ["lo"]
    assert found["cold-bind"]["directory"] == "/srv/deep/er"
