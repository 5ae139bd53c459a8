"""The command as a client, as a process of its own, against the real server."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from light_run import __version__
from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX
from tests.support.poll import eventually
from tests.support.registry import gate, pushed, registry
from tests.support.server import TOKEN, Server, free_port, server_environment
from tests.support.terminal import on_terminal

COMMAND = [sys.executable, "-m", "light_run"]
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Light:
    """``light-run`` of a user of `server`, in a folder of their own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.environ = server_environment(
            folder / "user", None, {"LIGHT_RUN_URL": server.url, "LIGHT_RUN_TOKEN": TOKEN}
        )
        (folder / "work").mkdir()
        self.work = folder / "work"

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end; what it writes is bytes."""
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        environ = {**self.environ, **options.pop("environ", {})}
        return subprocess.run(
            [*COMMAND, *arguments],
            env=environ,
            cwd=self.work,
            capture_output=True,
            timeout=60,
            check=False,
            **options,
        )

    def redirected(self, redirection: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run it with a `redirection` of the shell, such as ``>&-``."""
        return subprocess.run(
            ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *arguments],
            env=self.environ,
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def on_terminal(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """Run it on a terminal; its exit code, and all that it wrote."""
        return on_terminal([*COMMAND, *arguments], {**self.environ, **environ}, self.work)

    @contextmanager
    def at_work(self, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """It, under way."""
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            # Whoever runs the tests in the background of a script has this signal ignored, and so would the command.
            "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **options,
        }
        with subprocess.Popen([*COMMAND, *arguments], env=self.environ, cwd=self.work, **options) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


@pytest.fixture
def light(server: Server, tmp_path: Path) -> Light:
    """The command of somebody who has the shared server's address and token."""
    return Light(server, tmp_path)


def end_of_newest(server: Server) -> str:
    """What becomes of the run that was asked for last; a cancel is answered after a while even where it goes on."""
    return str(server.wait_done(newest(server)["id"])["status"])


def newest(server: Server) -> dict[str, Any]:
    """The state of the run that was asked for last."""
    state: dict[str, Any] = server.get("/runs?limit=1").json()[0]
    return state


# --- run ------------------------------------------------------------------------------------------------


def test_words_output_and_exit_code_are_those_of_the_container(light: Light) -> None:
    done = light(
        "run", BUSYBOX, "--", "sh", "-c", 'echo "$0"; echo to stderr >&2; printf unended; exit 7', "a  'b' $c"
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a  'b' $c\nunended", b"to stderr\n")
    assert light("run", BUSYBOX, "echo", "no dashes").stdout == b"no dashes\n"
    assert light("run", "light-run-test/entrypoint:latest").returncode == 0


def test_what_is_piped_in_arrives_byte_for_byte(light: Light) -> None:
    content = bytes(range(256)) * 1000
    assert light("run", BUSYBOX, "--", "wc", "-c", input=content).stdout.strip() == b"256000"
    done = light("run", BUSYBOX, "-x", "copy", "-o", ".", "--", "sh", "-c", "cat > copy", input=content)
    assert (done.returncode, (light.work / "copy").read_bytes()) == (0, content)
    assert light("run", BUSYBOX, "--no-stdin", "--", "wc", "-c", input=b"x").stdout.strip() == b"0"
    (light.work / "in").write_text("from a file")
    with (light.work / "in").open("rb") as file:
        assert light("run", BUSYBOX, "--", "cat", stdin=file).stdout == b"from a file"


def test_files_go_in_and_come_back(light: Light) -> None:
    (light.work / "src" / "deep").mkdir(parents=True)
    (light.work / "src" / "deep" / "one").write_text("1\n")
    (light.work / "src" / "empty").mkdir()
    (light.work / "a:b").write_text("colon\n")
    (light.work / "tool").write_text("#!/bin/sh\ncat\n")
    (light.work / "tool").chmod(0o755)
    command = "find . -type f | sort; ls -d again/empty; cat a:b | ./bin/tool > deep/out; echo $A$B; pwd"
    (light.work / "top").write_text("top\n")
    files = ["-f", "src", "-f", "src:again", "-f", "a:b", "-f", "tool:bin/", "-f", "top:."]
    options = [
        *files,
        "-e",
        "A=1=2",
        "-e",
        "B",
        "-w",
        "/w",
        "--network",
        "none",
        "-x",
        "deep",
        "-o",
        "to/here",
    ]
    done = light("run", BUSYBOX, *options, "--", "sh", "-c", command, environ={"B": "3"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().split() == [
        "./a:b",
        "./again/deep/one",
        "./bin/tool",
        "./deep/one",
        "./top",
        "again/empty",
        "1=23",
        "/w",
    ]
    assert (light.work / "to/here/out").read_text() == "colon\n"
    assert (light.work / "to/here/one").read_text() == "1\n"


def test_without_what_to_keep_the_whole_working_directory_comes_back(light: Light) -> None:
    done = light("run", BUSYBOX, "-o", "all", "--", "sh", "-c", "mkdir -p a/b; echo 1 > a/b/c; echo 2 > d")
    assert (done.returncode, done.stderr) == (0, b"")
    found = sorted(path.relative_to(light.work).as_posix() for path in light.work.rglob("*"))
    assert found == ["all", "all/a", "all/a/b", "all/a/b/c", "all/d"]


def test_too_much_input(light: Light) -> None:
    done = light("run", BUSYBOX, "--", "wc", "-c", input=bytes(20_000_000))
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"payload_too_large" in done.stderr
    assert b"with -f" in done.stderr


@pytest.mark.parametrize(
    ("options", "command", "code", "said"),
    [
        (["--timeout", "0.3"], ["sleep", "60"], 124, "timeout of 0.3 s"),
        (["--setup", "sleep 60", "--step-timeout", "0.3"], ["true"], 125, "stepTimeout of 0.3 s"),
        (["--memory", "8m"], ["tail", "/dev/zero"], 137, "memory"),
        (["--memory", "32m"], ["sh", "-c", "tail /dev/zero 2>/dev/null; exit 0"], 0, "1 of its processes"),
        (["--network", "no-such-network-78"], ["true"], 125, "no-such-network-78"),
        (["--memory", "1"], ["true"], 125, "limits.memory"),
        (["--pull", "never"], ["true"], 0, ""),
        (["-x", "gone"], ["true"], 0, "gone: missing"),
        ([], ["no-such-command"], 127, "not found"),
    ],
)
def test_how_it_ends(light: Light, options: list[str], command: list[str], code: int, said: str) -> None:
    done = light("run", BUSYBOX, *options, "--", *command)
    assert (done.returncode, done.stdout) == (code, b"")
    assert said in done.stderr.decode()
    assert bool(said) == bool(done.stderr)


def test_output_comes_while_the_run_is_at_work(light: Light) -> None:
    with light.at_work("run", BUSYBOX, "--", "sh", "-c", "echo up; sleep 60") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert newest(light.server)["status"] == "running"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert end_of_newest(light.server) == "cancelled"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_cancel_too(light: Light, number: signal.Signals, code: int) -> None:
    with light.at_work("run", BUSYBOX, "--", "sh", "-c", "echo up; sleep 60") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait(30) == code
    assert end_of_newest(light.server) == "cancelled"


def test_a_reader_that_goes_away_cancels(light: Light) -> None:
    with light.at_work("run", BUSYBOX, "--", "sh", "-c", "while :; do echo y; done") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(30) == 141
    assert end_of_newest(light.server) == "cancelled"


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [(">&-", 0, b""), ("2>&-", 0, b""), (">/dev/full", 125, b"light-run: No space left on device\n")],
)
def test_streams_that_take_nothing(light: Light, redirection: str, code: int, said: bytes) -> None:
    run_id = light.server.run()["id"]
    listed = light.redirected(redirection, "ps", "--all")
    assert (listed.returncode, listed.stderr) == (code, said)
    assert (run_id in listed.stdout.decode()) == (redirection == "2>&-")
    ran = light.redirected(redirection, "run", BUSYBOX, "--", "sh", "-c", "echo out; echo err >&2")
    assert (ran.returncode, b"Traceback" in ran.stderr) == (code, False)


def test_output_with_nowhere_to_go_ends_the_run(light: Light) -> None:
    ran = light.redirected(">/dev/full", "run", BUSYBOX, "--", "sh", "-c", "echo out; sleep 60")
    assert (ran.returncode, end_of_newest(light.server)) == (125, "cancelled")


@pytest.mark.parametrize("how", ["run", "logs"])
def test_a_progress_bar_moves(light: Light, how: str) -> None:
    bar = "printf '\\r10%%'; printf '\\377' >&2; sleep 60"
    if how == "run":
        command = ["run", BUSYBOX, "--", "sh", "-c", bar]
    else:
        command = ["logs", "--follow", light.server.start(entrypoint=bar)]
    with light.at_work(*command) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"\r10%"
        assert process.stderr.read(1) == b"\xff"
        light.server.cancel(newest(light.server)["id"])
        assert process.wait(30) == (130 if how == "run" else 0)


def test_a_signal_while_something_else_is_done(light: Light) -> None:
    run_id = light.server.start(entrypoint="echo up; sleep 60")
    with light.at_work("logs", "--follow", run_id) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (130, b"")
    assert light("rm", "--force", run_id).returncode == 0


def test_a_signal_while_the_run_is_asked_for(light: Light) -> None:
    # A file that is sent for as long as it takes for the signal to come.
    with (light.work / "big").open("wb") as file:
        file.truncate(300_000_000)
    before = newest(light.server)["id"] if light.server.get("/runs?limit=1").json() else None
    with light.at_work("run", BUSYBOX, "-f", "big", "--", "sleep", "60") as process:
        eventually(lambda: str(light.work / "big") in opened(process.pid), "it reads the file")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    found = light.server.get("/runs?limit=1").json()
    assert not found or found[0]["id"] == before or end_of_newest(light.server) == "cancelled"


def opened(pid: int) -> set[str]:
    """What a process has open."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(entry))
        except FileNotFoundError:
            continue
    return found


def test_a_terminal_gets_colours_and_nothing_else_to_obey(light: Light) -> None:
    attack, shown = r"\033]52;c;eA==\007", r"\x1b]52;c;eA==\x07"
    command = ("run", BUSYBOX, "--", "printf", attack + r"\033[31mred\033[0m\n")
    code, written = light.on_terminal(*command)
    assert code == 0, written
    assert f"{shown}\x1b[31mred\x1b[0m" in written
    assert "\x1b]52;c;eA==\x07" in light.on_terminal("run", "--raw", *command[1:])[1]
    # What is no terminal gets what the run wrote.
    run_id = light.server.get("/runs?limit=1").json()[0]["id"]
    assert b"\x1b]52;c;eA==\x07" in light("logs", run_id).stdout
    assert shown in light.on_terminal("logs", run_id)[1]


def test_a_bar_where_somebody_looks(light: Light) -> None:
    (light.work / "big").write_bytes(bytes(8_000_000))
    code, written = light.on_terminal("run", BUSYBOX, "-f", "big", "-o", "to", "--", "echo", "done")
    assert code == 0, written
    assert re.search(r"sending.*100%", written)
    assert re.search(r"downloading.*100%", written)
    assert "done\n" in written
    assert (light.work / "to" / "big").stat().st_size == 8_000_000


def test_a_bar_while_an_image_is_pulled(light: Light, tmp_path: Path) -> None:
    with (
        registry(tmp_path / "data") as address,
        gate(address) as way,
        pushed(way.address, files={"large": os.urandom(6 << 20)}) as image,
    ):
        way.hold_after(4 << 20)
        command = [*COMMAND, "run", image, "--", "echo", "there"]
        # Not before it is on the screen how far it is.
        code, written = on_terminal(command, light.environ, light.work, when={b" layers": way.open})
    assert code == 0, written
    assert re.search(r"pulling \d/\d layers +\[[#-]+\] +100%", written)
    assert written.endswith("there\n")


# --- the others -----------------------------------------------------------------------------------------


def test_a_detached_run_from_its_begin_to_its_end(light: Light) -> None:
    run_id = (
        light(
            "run",
            "-d",
            BUSYBOX,
            "-x",
            "out",
            "--label",
            "team=search",
            "--label",
            "rank=2",
            "--",
            "sh",
            "-c",
            "mkdir -p out/d; echo 1 > out/d/e; echo 2 > out/f; sleep 2; echo end; exit 4",
        )
        .stdout.decode()
        .strip()
    )
    assert UUID.fullmatch(run_id)
    # That one may have ended when the next command looks.
    other = light.server.start(entrypoint="sleep 600")
    rows = [line.split("\t") for line in light("ps").stdout.decode().splitlines()]
    assert other in [row[0] for row in rows if row[1] in ("running", "queued")]
    light.server.cancel(other)
    assert light("logs", "--follow", run_id[:13]).stdout == b"end\n"
    waited = light("wait", run_id[:13])
    assert (waited.returncode, waited.stdout) == (4, b"4\n")
    listed = {
        row[0]: row for row in (line.split("\t") for line in light("ps", "-a").stdout.decode().splitlines())
    }
    assert listed[run_id][1:3] == ["failed", "4"]
    as_json = json.loads(light("ps", "--status", "failed", "--last", "1", "--json").stdout)
    assert [state["id"] for state in as_json] == [run_id]
    assert run_id not in light("ps").stdout.decode()

    assert light("artifacts", run_id).stdout.decode().splitlines() == [
        "0\tdirectory\td",
        "2\tfile\td/e",
        "2\tfile\tf",
    ]
    assert json.loads(light("artifacts", "--json", run_id).stdout)[2] == {
        "path": "f",
        "bytes": 2,
        "type": "file",
    }
    for source, target in (("f", "."), ("f", "other"), ("d", "."), ("d", "new"), ("d/e", "new"), ("", "all")):
        done = light("cp", f"{run_id}:{source}", target)
        assert (done.returncode, done.stdout + done.stderr) == (0, b""), source
    found = sorted(
        path.relative_to(light.work).as_posix() for path in light.work.rglob("*") if path.is_file()
    )
    assert found == ["all/d/e", "all/f", "d/e", "f", "new/e", "other"]

    assert light("cp", f"{run_id}:d/e", "-").stdout == b"1\n"
    for source, names in (("d", {"e"}), ("", {"d", "d/e", "f"})):
        with tarfile.open(fileobj=io.BytesIO(light("cp", f"{run_id}:{source}", "-").stdout)) as archive:
            assert {each.removeprefix("./") for each in archive.getnames()} == {".", *names}
    nowhere = light("cp", f"{run_id}:f", "none/f")
    assert (nowhere.returncode, nowhere.stderr) == (125, b"light-run: none/f: No such file or directory\n")

    refused = light("cancel", run_id, "ffffffff")
    assert (refused.returncode, refused.stdout) == (125, b"")
    assert len(refused.stderr.splitlines()) == 2
    wide = light("ps", "--all", "--wide", "--label", "team=search").stdout.decode().splitlines()
    assert [(row.split("\t")[0], row.split("\t")[-1]) for row in wide] == [(run_id, "team=search,rank=2")]
    removed = light("rm", run_id[:13])
    assert (removed.returncode, removed.stdout.decode().strip()) == (0, run_id)
    assert light("logs", run_id).returncode == 125


def test_logs_their_streams_and_times(light: Light) -> None:
    run_id = light.server.run(entrypoint="echo out; echo err >&2; echo last")["id"]
    done = light("logs", run_id)
    assert (done.stdout, done.stderr) == (b"out\nlast\n", b"err\n")
    assert light("logs", "--stream", "stdout", "--tail", "1", run_id).stdout == b"last\n"
    assert re.fullmatch(rb"\d{4}-.*Z err\n", light("logs", "--stream", "stderr", "-t", run_id).stderr)


def test_cancel_and_rm_by_force(light: Light) -> None:
    first, second = (light.server.start(entrypoint="sleep 60") for _ in range(2))
    assert light("cancel", first).stdout.decode().strip() == first
    assert light.server.wait_done(first)["status"] == "cancelled"
    assert light("wait", first).returncode == 130
    assert light("rm", second).returncode == 125
    assert light("wait", "--timeout", "0.1", second).returncode == 125
    assert light("rm", "--force", first, second).stdout.decode().split() == [first, second]


def test_tables_and_colours_on_a_terminal_alone(light: Light) -> None:
    run_id = light.server.run(entrypoint="exit 1")["id"]
    code, written = light.on_terminal("ps", "--last", "1")
    assert code == 0
    assert re.search(r"RUN +STATUS +EXIT +STARTED +TOOK +WHY", written)
    assert "\x1b[31mfailed" in written
    assert run_id[:12] in written
    assert run_id not in written
    assert "ago" in written
    assert "\x1b[" not in light.on_terminal("ps", "--last", "1", NO_COLOR="1")[1]
    plain = light("ps", "--last", "1").stdout.decode()
    assert "\x1b[" not in plain
    assert plain.split("\t")[:3] == [run_id, "failed", "1"]


def test_ids_are_completed(light: Light) -> None:
    run_id = light.server.run()["id"]
    words = f"light-run logs {run_id[:6]}"
    environ = {"_LIGHT_RUN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "2"}
    assert run_id in light(environ=environ).stdout.decode()
    unreachable = light(environ={**environ, "LIGHT_RUN_URL": f"http://127.0.0.1:{free_port()}"})
    assert (unreachable.stdout.strip(), unreachable.stderr) == (b"", b"")
    of_files = {**environ, "COMP_WORDS": "light-run run image -f sr", "COMP_CWORD": "4"}
    assert light(environ=of_files).stdout == b"file,sr\n"
    of_commands = {**environ, "COMP_WORDS": "light-run ca", "COMP_CWORD": "1"}
    assert b"cancel" in light(environ=of_commands).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script(light: Light, shell: str) -> None:
    done = light("completion", shell)
    assert done.returncode == 0
    assert b"_LIGHT_RUN_COMPLETE" in done.stdout
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=done.stdout, check=False).returncode == 0


# --- doctor, and what is wrong --------------------------------------------------------------------------


def test_doctor_of_a_server_that_is_well(light: Light) -> None:
    done = light("doctor")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, lines
    assert [line.split()[1] for line in lines if line.startswith(("ok", "warn"))] == [
        "server:",
        "version:",
        "token:",
        "engine:",
        "runtimes:",
        "workspaces:",
        "network:",
        "network:",
        "disk:",
        "disk",
    ]
    assert "what a run reaches was not tried (" in done.stdout.decode()
    assert f"ok    version: {__version__} (client and server)" in lines
    assert any("Docker/" in line for line in lines)
    assert "\x1b[32mok" in light.on_terminal("doctor")[1]


def test_doctor_tries_what_a_run_reaches(light: Light) -> None:
    before = [run["id"] for run in light.server.get("/runs").json()]
    said = light("doctor", "--image", "light-run-test/none-such", "--image", BUSYBOX).stdout.decode()
    assert (
        "ok    network: a run that tried reaches neither the engine's host nor the metadata address" in said
    )
    assert [run["id"] for run in light.server.get("/runs").json()] == before


def test_doctor_of_a_wrong_token_and_of_a_limited_one(
    light: Light, start_server: StartServer, tmp_path: Path
) -> None:
    for token, words in (("wrong", "fail  token:"), ("", "LIGHT_RUN_TOKEN is not set")):
        done = light("doctor", environ={"LIGHT_RUN_TOKEN": token})
        assert done.returncode == 1
        assert words in done.stdout.decode()
    tokens = {"LIGHT_RUN_TOKENS_FILE": str(tmp_path / "tokens.json")}
    looks = light("token", "new", "looks", "--scope", "read", environ=tokens).stdout.decode().strip()
    own = start_server(settings={**tokens, "LIGHT_RUN_WORKSPACE": "archive", "LIGHT_RUN_RUNTIMES": "kata"})
    done = light("doctor", environ={"LIGHT_RUN_URL": own.url, "LIGHT_RUN_TOKEN": looks})
    words = done.stdout.decode()
    assert done.returncode == 0, words
    # Whether the packet filter's rules stand is the host's state, which others on this machine change as well.
    warned = [line for line in words.splitlines() if line.startswith("warn  ") and "network:" not in line]
    assert warned == [
        "warn  token: accepted, scopes: read",
        "warn  runtimes: the engine has none of the allowed runtimes",
        "warn  workspaces: archive (files are copied)",
    ]


def test_doctor_of_a_machine_without_a_server(light: Light, tmp_path: Path) -> None:
    environ = {
        "LIGHT_RUN_URL": f"http://127.0.0.1:{free_port()}",
        "DOCKER_HOST": f"unix://{tmp_path}/none.sock",
    }
    done = light("doctor", environ=environ)
    words = done.stdout.decode()
    assert done.returncode == 1
    assert "fail  server:" in words
    assert "light-run serve" in words
    assert "none.sock does not exist" in words
    assert "ok    state:" in words
    there = os.environ.get("DOCKER_HOST", "")
    bad = light("doctor", environ={**environ, "DOCKER_HOST": there, "LIGHT_RUN_CPUS": "many"}).stdout.decode()
    assert "fail  settings: LIGHT_RUN_CPUS" in bad
    assert "ok    engine:" in bad


@pytest.mark.parametrize(
    "command", [["ps"], ["run", BUSYBOX], ["logs", "x"], ["cp", "x:y", "."], ["wait", "x"]]
)
def test_no_server_is_one_line_and_125(light: Light, command: list[str]) -> None:
    done = light(*command, environ={"LIGHT_RUN_URL": f"http://127.0.0.1:{free_port()}"})
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"refused" in done.stderr


def test_an_address_with_a_path_too_many(light: Light) -> None:
    elsewhere = {"LIGHT_RUN_URL": f"{light.server.url}/elsewhere"}
    done = light("ps", environ=elsewhere)
    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
    assert b"/elsewhere/runs" in done.stderr
    examined = light("doctor", environ=elsewhere)
    assert (examined.returncode, examined.stdout.count(b"fail")) == (1, 1)
    assert b"has no /info" in examined.stdout


def test_what_is_no_address_is_2(light: Light) -> None:
    done = light("ps", "--url", "localhost:3000")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"http://127.0.0.1:3000" in done.stderr
