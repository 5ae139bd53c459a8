"""`Runner` in a script: a container with no server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path

import pytest

from light_run import Limits, Runner, RunSpec
from light_run.engine import (
    Destinations,
    File,
    Phase,
    Progress,
    Reason,
    RunnerConfig,
    RunResult,
    StopRequest,
    read_log,
)
from light_run.errors import InvalidSpec
from tests.support.engine import BUSYBOX, NOSHELL, containers_of
from tests.support.poll import eventually, until_nothing
from tests.support.server import REPOSITORY, free_port

RESERVED = (ValueError, InvalidSpec)


@pytest.fixture(scope="module", params=["bind", "archive"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunnerConfig:
    """The settings of a runner with an id of its own, once for each way of getting files in and out."""
    return RunnerConfig(
        server_id=f"test-{uuid.uuid4()}",
        state_dir=tmp_path_factory.mktemp("state"),
        workspace=request.param,
        parked_max=0,
    )


@pytest.fixture
def runner(config: RunnerConfig) -> Iterator[Runner]:
    """A runner that has left nothing when the test is over."""
    assert config.state_dir
    workspaces = config.state_dir / "workspaces"
    before = set(workspaces.glob("*"))
    with Runner(config) as runner:
        yield runner
    until_nothing(lambda: containers_of(config.server_id), "no container is left")
    until_nothing(lambda: [*set(workspaces.glob("*")) ^ before], "no workspace is left")


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """A place for the artifacts."""
    return tmp_path / "artifacts"


def spec(entrypoint: str | None = "true", **fields: object) -> RunSpec:
    """A run of busybox without a network."""
    fields = {"image": BUSYBOX, "network": "none", **fields}
    return RunSpec(entrypoint=entrypoint, **fields)  # type: ignore[arg-type]


class Watcher:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.container = ""
        self.result: RunResult | None = None
        self.there_at_the_end = False

    def phase(self, phase: Phase) -> None:
        self.told.append(f"phase {phase}")

    def progress(self, progress: Progress) -> None:
        self.told.append("progress")

    def assigned(self, container_id: str, *, parked: bool) -> None:
        self.container = container_id
        self.told.append("assigned")

    def launched(self, started_at: datetime) -> None:
        self.told.append("launched")

    def waiting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def wrote(self) -> None:
        self.told.append("wrote")

    def ended(self, result: RunResult) -> None:
        self.result = result
        self.told.append("ended")


def test_files_in_and_output_out(runner: Runner) -> None:
    result = runner.run(spec("cat a b/c; echo err >&2", files={"a": "1\n", "b/c": b"2\n"}))
    assert result.exit_code == 0
    assert result.succeeded
    assert result.reason is Reason.EXIT
    assert result.error is None
    assert sorted(result.logs) == ["1", "2", "err"]
    assert result.duration > 0
    assert result.started_at
    assert result.started_at.tzinfo


def test_a_mode(runner: Runner) -> None:
    result = runner.run(spec("./tool", files={"tool": File(b"#!/bin/sh\necho ran\n", mode=0o755)}))
    assert result.logs == ("ran",)


def test_files_that_were_staged(runner: Runner) -> None:
    run_id = str(uuid.uuid4())
    runner.stage(run_id, {"a": "staged\n"})
    assert runner.run(spec("cat a"), run_id=run_id).logs == ("staged",)


def test_files_that_were_staged_and_never_run(runner: Runner, config: RunnerConfig) -> None:
    run_id = str(uuid.uuid4())
    folder = runner.stage(run_id, {"a": "staged\n"})
    assert (folder / "a").read_text() == "staged\n"
    runner.discard(run_id)
    assert not folder.exists()


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "", "..", "a\0b"])
def test_a_path_that_leaves_the_workdir(runner: Runner, path: str) -> None:
    with pytest.raises(RESERVED):
        runner.run(spec(files={path: "x"}))
    with pytest.raises(RESERVED):
        runner.stage(str(uuid.uuid4()), {path: "x"})


def test_an_exit_code(runner: Runner) -> None:
    result = runner.run(spec("exit 9"))
    assert (result.exit_code, result.reason, result.succeeded) == (9, Reason.EXIT, False)


def test_stdin(runner: Runner) -> None:
    assert runner.run(spec("cat", stdin=b"given\n")).logs == ("given",)
    assert runner.run(spec("cat; echo end")).logs == ("end",)


def test_env(runner: Runner) -> None:
    assert runner.run(spec('echo "$A"', env={"A": "$(id) 'x'"})).logs == ("$(id) 'x'",)


def test_extraction(runner: Runner, artifacts: Path) -> None:
    result = runner.run(
        spec("mkdir d; echo 1 > d/one; echo 2 > /tmp/two; echo said", extract=("d", "/tmp/two", "gone")),
        to=Destinations(artifacts=artifacts),
    )
    assert (artifacts / "one").read_bytes() == b"1\n"
    assert (artifacts / "two").read_bytes() == b"2\n"
    assert {(artifact.path, artifact.bytes) for artifact in result.artifacts} == {("one", 2), ("two", 2)}
    assert [entry.status for entry in result.extracted] == ["ok", "ok", "missing"]
    assert result.logs == ("said",)


def test_extraction_without_a_place_is_refused(runner: Runner) -> None:
    with pytest.raises(InvalidSpec, match="extract"):
        runner.run(spec(extract=("x",)))


def test_a_folder_of_files(runner: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "lib").mkdir(parents=True)
    (folder / "main.sh").write_text("#!/bin/sh\n. lib/say.sh\nsay world\n")
    (folder / "main.sh").chmod(0o755)
    (folder / "lib" / "say.sh").write_text('say() { echo "hello $1"; }\n')
    result = runner.run(spec("./main.sh && echo changed > main.sh", files=folder))
    assert result.logs == ("hello world",)
    assert (folder / "main.sh").read_text().startswith("#!/bin/sh")


def test_a_folder_with_links_gives_nothing_from_outside(runner: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "private").write_text("private-canary")
    (folder / "link").symlink_to(tmp_path / "private")
    (folder / "up").symlink_to("..")
    try:
        result = runner.run(spec("cat link up/private; true", files=folder))
    except InvalidSpec:
        return
    assert "private-canary" not in "".join(result.logs)


def test_a_log_file(runner: Runner, tmp_path: Path) -> None:
    log = tmp_path / "log"
    begun = int(time.time() * 1000)
    result = runner.run(spec("echo out; sleep 1; printf err >&2"), to=Destinations(log=log))
    assert result.logs == ()
    lines = list(read_log(log, ended=True))
    assert [(line.stream, line.text) for line in lines] == [("stdout", "out"), ("stderr", "err")]
    assert [line.seq for line in lines] == [0, 1]
    # That of each line's coming, not of the reading or of the log as a whole.
    assert begun <= lines[0].time <= lines[1].time <= time.time() * 1000


def test_a_missing_log_file_has_no_lines(tmp_path: Path) -> None:
    assert list(read_log(tmp_path / "none")) == []


def test_a_timeout(runner: Runner) -> None:
    result = runner.run(spec("echo up; sleep 60", timeout=3.0))
    assert (result.reason, result.succeeded, result.logs) == (Reason.TIMEOUT, False, ("up",))
    assert result.error
    assert 3.0 <= result.duration < 30


def test_limits(runner: Runner) -> None:
    result = runner.run(spec("tail /dev/zero", limits=Limits(memory=32 * 1024 * 1024), timeout=60.0))
    assert result.reason is Reason.OUT_OF_MEMORY


@pytest.mark.parametrize("milliseconds", [0, 20, 50, 100, 200, 300, 500])
def test_a_cancel_at_any_moment(runner: Runner, milliseconds: int) -> None:
    stop = StopRequest()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(runner.run, spec("sleep 60"), stop=stop)
        time.sleep(milliseconds / 1000)  # the moment is what is tested: nothing is waited for
        stop.request()
        result = running.result(30)
    assert (result.reason, result.succeeded) == (Reason.CANCELLED, False)


def test_a_cancel_that_came_before(runner: Runner) -> None:
    stop = StopRequest()
    stop.request()
    stop.request()
    assert stop.requested
    watcher = Watcher()
    assert runner.run(spec("echo never"), stop=stop, observer=watcher).reason is Reason.CANCELLED
    assert "launched" not in watcher.told


def test_a_cancel_of_what_has_ended(runner: Runner) -> None:
    stop = StopRequest()
    result = runner.run(spec(), stop=stop)
    stop.request()
    assert result.succeeded


def test_an_observer_is_told_in_order(runner: Runner, config: RunnerConfig) -> None:
    watcher = Watcher()
    result = runner.run(spec("echo x"), observer=watcher)
    assert watcher.container
    order = [word for word in watcher.told if word in ("assigned", "launched", "wrote", "ended")]
    # Output may come before the input has been delivered.
    assert sorted(order[1:3]) == ["launched", "wrote"]
    assert [order[0], *order[3:]] == ["assigned", "ended"]
    assert watcher.result
    assert watcher.result.exit_code == result.exit_code == 0


def test_a_missing_image(runner: Runner) -> None:
    result = runner.run(spec(image=f"127.0.0.1:{free_port()}/x:1"))
    assert result.reason is Reason.PULL_FAILED
    assert result.exit_code is None
    assert result.error


def test_an_image_without_a_shell(runner: Runner) -> None:
    assert runner.run(spec(None, image=NOSHELL)).logs == ("hello from no shell",)


def test_a_network_that_is_not_there(runner: Runner) -> None:
    result = runner.run(spec(network="no-such-network-77"))
    assert result.reason is Reason.START_FAILED
    assert "no-such-network-77" in str(result.error)


def test_a_step_that_fails(runner: Runner) -> None:
    result = runner.run(spec(steps=(f"echo {uuid.uuid4()}; exit 4",)))
    assert result.reason is Reason.BUILD_FAILED
    assert "4" in str(result.error)


def test_many_threads_share_a_runner(runner: Runner) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: runner.run(spec(f"echo {number}")), range(16)))
    assert [result.logs for result in results] == [(str(number),) for number in range(16)]


def test_health(runner: Runner) -> None:
    assert runner.health().docker is True


def test_a_runner_with_nothing_said_leaves_nothing(tmp_path: Path) -> None:
    # As in a person's script: a process of its own, with no settings at all but where the engine is.
    engine = {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
    script = (
        "from light_run import Runner, RunSpec\n"
        "with Runner() as runner:\n"
        f"    spec = RunSpec(image={BUSYBOX!r}, entrypoint='cat hello.txt', files={{'hello.txt': 'hi'}})\n"
        "    result = runner.run(spec)\n"
        "print(result.exit_code, result.logs)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path), **engine},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 ('hi',)\n", "")
    assert list(tmp_path.iterdir()) == []


def test_importing_does_nothing() -> None:
    script = (
        "import sys, threading, light_run\n"
        "print(sorted(set(sys.modules) & {'docker', 'flask', 'click'}), threading.active_count())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=REPOSITORY,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[] 1\n", "")


def test_a_runner_that_is_closed_has_no_threads(config: RunnerConfig) -> None:
    before = threading.active_count()
    runner = Runner(config)
    runner.open()
    runner.run(spec())
    runner.close()
    eventually(lambda: threading.active_count() <= before, "the runner's threads have ended")
