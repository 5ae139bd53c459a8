"""Everything the documentation shows is executed, and what it shows as output is compared."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
import requests

from tests.docs import normal, rst
from tests.docs.conftest import Outcome, Place, named
from tests.docs.settings_files import MANUAL, REPOSITORY
from tests.support.engine import containers_of
from tests.support.poll import eventually
from tests.support.receiver import signature
from tests.support.server import Server, log_events
from tests.support.terminal import on_terminal

EXAMPLES = rst.examples(MANUAL)
SHELL = [pytest.param(each, id=each.code.place) for each in EXAMPLES if each.code.language == "bash"]
PYTHON = [pytest.param(each, id=each.code.place) for each in EXAMPLES if each.code.language == "python"]

# Blocks that are no examples to be executed as they stand, and the tests that answer for them.
ANSWERED_FOR = {
    "set-up-commands": "test_make.py",
    "demo-output": "test_make.py",
    "development-commands": "test_make.py",
    "engines-command": "test_make.py",
    "serve": "the fixture `server`",
    "serve-again": "test_what_is_shown_again_is_the_same",
    "set-up-commands-again": "test_what_is_shown_again_is_the_same",
    "log-line": "test_log_lines",
    "gunicorn": "test_deploying.py",
    "gunicorn-configured": "test_deploying.py",
    "systemd": "test_deploying.py",
    "nginx-site": "test_deploying.py",
    "nginx-lines": "test_deploying.py",
    "compose": "test_deploying.py",
    "prometheus": "test_deploying.py",
    "traced-server": "test_tracing_is_an_extra, and tests/integration/test_traces.py",
    "firewall": "test_deploying.py",
    "receiver.py": "test_the_receiver_tells_a_forgery, and a shell example starts it",
    "request.json": "a shell example sends it",
    "squares.py": "the recording sends it",
    "recording": "test_the_recording",
}


def test_every_block_is_executed_or_answered_for() -> None:
    shown = {each.shown.place for each in EXAMPLES if each.shown is not None}
    executed = {each.code.place for each in EXAMPLES}
    blocks = rst.blocks(MANUAL)
    unaccounted = [
        block.place for block in blocks if block.name is None and block.place not in executed | shown
    ]
    assert unaccounted == []
    assert {block.name for block in blocks if block.name is not None} == set(ANSWERED_FOR)


@pytest.mark.parametrize("name", ["serve", "set-up-commands"])
def test_what_is_shown_again_is_the_same(name: str) -> None:
    assert named(f"{name}-again").text == named(name).text


def test_there_are_enough_examples() -> None:
    assert len(SHELL) >= 12
    assert len(PYTHON) >= 3


# The first of them waits for the shell that executes all.
@pytest.mark.timeout(400)
@pytest.mark.parametrize("example", SHELL)
def test_shell(example: rst.Example, place: Place, shell: dict[str, Outcome]) -> None:
    outcome = shell[example.code.place]
    assert outcome.code == 0, f"stopped here, or before\n{outcome.stdout}\n{outcome.stderr}"
    compare(place, example.shown, outcome.stdout)


@pytest.mark.parametrize("example", PYTHON)
def test_python(example: rst.Example, place: Place, server: Server) -> None:
    script = place.folder / f"{example.code.place}.py"
    script.write_text(place.own(example.code.text) + "\n")
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=place.folder,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    compare(place, example.shown, done.stdout)


def compare(place: Place, shown: rst.Block | None, stdout: str) -> None:
    """Fail where `stdout` is not what the documentation shows; where it shows nothing, there must be nothing."""
    stdout = place.shown(stdout)
    if shown is None:
        assert stdout.strip() == "", "the documentation shows no output here"
    elif shown.language == "json":
        assert normal.value(stdout) == normal.value(shown.text)
    else:
        assert normal.text(stdout) == normal.text(shown.text)


def test_the_recording(place: Place, server: Server) -> None:
    shown = named("recording").text
    commands = re.findall(r"^\$ (.*)$", place.own(shown), re.MULTILINE)
    script = [". .venv/bin/activate"]
    for command in commands:
        script += [f"printf '$ %s\\n' {shlex.quote(command)}; (exit ${{code:-0}})", command, "code=$?"]
    code, written = on_terminal(["bash", "-c", "\n".join(script)], place.environment(), place.folder)
    assert code == 0, written
    # What is left on the screen: colours have no text, and a bar is drawn over itself.
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).split("\r")[-1] for line in written.split("\n")]
    assert seen("\n".join(lines), place) == seen(shown, place)


def seen(text: str, place: Place) -> list[str]:
    """The lines of a terminal, without what is another each time: ids, times, and the widths of columns."""
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f]{3}\b", "<id>", normal.text(place.shown(text)))
    text = re.sub(r"\b\d+(\.\d)? s( ago)? ", "<seconds> ", text)
    return [re.sub(r" +", " ", line) for line in text.splitlines()]


def test_the_examples_leave_nothing(place: Place, server: Server, shell: dict[str, Outcome]) -> None:
    server.wait_clean()


def test_log_lines(server: Server, shell: dict[str, Outcome]) -> None:
    shown = json.loads(named("log-line").text)
    same = {name: value for name, value in shown.items() if name not in ("time", "ms", "run")}
    events = log_events(server.stderr)
    assert len(events) == len(server.stderr.splitlines())
    (first, *_) = [event for event in events if same.items() <= event.items()]
    assert first.keys() == shown.keys()
    assert normal.text(first["time"]) == "<time>"
    assert type(first["ms"]) is type(shown["ms"])
    assert all({"time", "level", "logger", "event"} <= event.keys() for event in events)


def test_tracing_is_an_extra() -> None:
    shown = named("traced-server").text
    assert "pip install 'light-run[otel]'" in shown
    assert re.search(r"^otel =$", (REPOSITORY / "setup.cfg").read_text(), re.MULTILINE)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT=http" in shown


def test_scripts_without_a_server_leave_no_container(place: Place) -> None:
    example = next(each for each in EXAMPLES if "Runner()" in each.code.text)
    script = 'RunnerConfig(server_id="sdk-readme")'
    text = place.own(example.code.text).replace("Runner()", f"Runner({script})")
    (place.folder / "alone.py").write_text(f"from light_run.engine import RunnerConfig\n{text}\n")
    subprocess.run(
        [sys.executable, "alone.py"], cwd=place.folder, env=place.environment(), check=True, timeout=60
    )
    assert containers_of("sdk-readme") == []


@pytest.fixture
def receiver(place: Place) -> Iterator[subprocess.Popen[str]]:
    """The documentation's receiver of callbacks, at work."""
    script = place.folder / "receiver.py"
    with subprocess.Popen(
        [sys.executable, "-u", str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_the_receiver_tells_a_forgery(place: Place, receiver: subprocess.Popen[str]) -> None:
    url = f"http://127.0.0.1:{place.ports['8000']}/done"
    headers = {"X-Light-Run-Signature": signature("another secret altogether", b"{}")}

    def post() -> int:
        try:
            return requests.post(url, data=b"{}", headers=headers, timeout=10).status_code
        except requests.ConnectionError:
            return 0

    assert eventually(post, "the receiver answers") == 403
    assert receiver.wait(10) == 0
    assert receiver.stdout is not None
    assert receiver.stdout.read() == ""
