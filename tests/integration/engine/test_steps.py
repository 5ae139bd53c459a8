"""`run` steps, built by a Runner: once for all who wait, from what is there, and given up with the last of them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from light_run import Runner, RunSpec
from light_run.engine import Reason, RunResult, StopRequest
from tests.integration.engine.conftest import StartRunner
from tests.integration.engine.test_library import Watcher
from tests.support.engine import BUSYBOX, ENTRYPOINT, KIND, containers_of, engine_api, step_images
from tests.support.poll import eventually


@pytest.fixture
def runner(start_runner: StartRunner) -> Runner:
    """A runner that parks nothing."""
    return start_runner()


def unique() -> str:
    return uuid.uuid4().hex


def run(runner: Runner, *steps: str, entrypoint: str | None = "true", **fields: Any) -> RunResult:
    fields = {"image": BUSYBOX, "network": "none", **fields}
    options = {name: fields.pop(name) for name in ("stop", "observer") if name in fields}
    return runner.run(RunSpec(steps=steps, entrypoint=entrypoint, **fields), **options)


def building() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("build-")]


def test_eight_threads_and_one_build(runner: Runner) -> None:
    steps = (f"echo {unique()}; sleep 0.5; date +%s%N >/when",)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: run(runner, *steps, entrypoint="cat /when"), range(8)))
    assert all(result.succeeded for result in results), results
    assert len({result.logs for result in results}) == 1
    assert len(step_images(runner.config.server_id)) == 1


def test_a_shared_beginning_is_built_once(runner: Runner) -> None:
    first = f"echo {unique()}; date +%s%N >/when"
    logs = [
        run(runner, first, *rest, entrypoint="cat /when").logs
        for rest in ((), ("echo 1 >/n",), ("echo 2 >/n",), ("echo 1 >/n", "echo 3 >/m"))
    ]
    assert len(set(logs)) == 1
    assert len(step_images(runner.config.server_id)) == 4


def test_a_failure_names_the_step_its_code_and_its_last_lines(runner: Runner) -> None:
    bad = "echo first words; for i in $(seq 30); do echo line $i; done; printf 'the last words' >&2; exit 42"
    result = run(runner, f"echo {unique()}", bad, "echo never", entrypoint="echo never")
    assert (result.reason, result.exit_code, result.logs) == (Reason.BUILD_FAILED, None, ())
    error = str(result.error)
    assert "step 2" in error
    assert "42" in error
    assert "the last words" in error
    assert "line 30" in error
    assert "first words" not in error.replace(repr(bad), "")
    # What was built before it stays.
    assert len(step_images(runner.config.server_id)) == 1


def test_the_last_words_of_a_long_build(runner: Runner) -> None:
    # They matter most where there is most before them.
    result = run(runner, f"echo {unique()}; yes filler | head -c 3000000; echo 'the 'reason; exit 1")
    assert result.reason is Reason.BUILD_FAILED
    assert "the reason" in str(result.error)


def test_an_error_is_no_log(runner: Runner) -> None:
    result = run(runner, f"echo {unique()}; head -c 3000000 /dev/zero | tr '\\0' x; exit 1")
    assert result.reason is Reason.BUILD_FAILED
    assert len(str(result.error)) < 20_000


def test_a_build_that_is_cancelled_is_given_up(runner: Runner) -> None:
    stop = StopRequest()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, runner, f"echo {unique()}; sleep 60", stop=stop)
        eventually(lambda: step_containers(runner), "the step is under way")
        stop.request()
        assert running.result(20).reason is Reason.CANCELLED
    eventually(lambda: not step_containers(runner) and not building(), "nothing of the build is left")
    assert step_images(runner.config.server_id) == []


def step_containers(runner: Runner) -> list[str]:
    return [one["Id"] for one in containers_of(runner.config.server_id) if one["Labels"].get(KIND) == "build"]


@pytest.mark.parametrize("moment", ["building", "progress"])
def test_a_cancel_at_the_beginning_of_a_build(runner: Runner, moment: str) -> None:
    stop = StopRequest()
    result = run(runner, f"echo {unique()}; sleep 60", stop=stop, observer=Watcher(moment, stop.request))
    assert result.reason is Reason.CANCELLED
    eventually(lambda: not step_containers(runner) and not building(), "nothing of the build is left")


def test_one_of_two_is_cancelled_and_the_other_gets_its_image(runner: Runner) -> None:
    steps = (f"echo {unique()}; sleep 1; echo built >/x",)
    stop = StopRequest()
    with ThreadPoolExecutor(2) as pool:
        leaving = pool.submit(run, runner, *steps, stop=stop)
        staying = pool.submit(run, runner, *steps, entrypoint="cat /x")
        eventually(lambda: step_containers(runner), "the step is under way")
        stop.request()
        assert leaving.result(20).reason is Reason.CANCELLED
        assert staying.result(30).logs == ("built",)


def test_the_configuration_of_the_base_is_kept(runner: Runner) -> None:
    own = run(runner, f"echo {unique()} >/x", image=ENTRYPOINT, entrypoint=None, stdin=b"through cat")
    assert own.logs == ("through cat",)
    (made,) = step_images(runner.config.server_id)
    with engine_api() as api:
        base, built = (api.inspect_image(name)["Config"] for name in (ENTRYPOINT, made))  # type: ignore[no-untyped-call]
    for name in ("Entrypoint", "Cmd", "User", "Env", "WorkingDir", "Volumes", "ExposedPorts"):
        # The root is where a command starts that an image starts nowhere.
        unset = "/" if name == "WorkingDir" else None
        assert (base.get(name) or unset) == (built.get(name) or unset), name


def test_a_step_that_the_engine_refuses(runner: Runner) -> None:
    result = run(runner, "true", image="light-run-test/noshell:latest", entrypoint=None)
    assert result.reason is Reason.BUILD_FAILED
    assert "step 1" in str(result.error)


def test_a_step_that_fills_the_disk(start_runner: StartRunner) -> None:
    result = run(start_runner(workspace_cap=5 << 20), "head -c 50000000 /dev/urandom >/f; sleep 60")
    assert (result.reason, "filled the disk" in str(result.error)) == (Reason.BUILD_FAILED, True), result


def test_a_step_that_runs_over_its_time(runner: Runner) -> None:
    command = f"echo {unique()}; echo the last words; sleep 300"
    result = run(runner, command, step_timeout=2.0)
    assert (result.reason, result.exit_code) == (Reason.BUILD_FAILED, None)
    error = str(result.error)
    assert f"step 1 ({command!r})" in error
    assert "stepTimeout of 2 s" in error
    assert error.endswith("the last words")
    # Already when the run has ended, and with it its slot.
    assert not containers_of(runner.config.server_id)
    eventually(lambda: not building(), "the build has ended")
    assert not step_images(runner.config.server_id)


def test_all_steps_share_their_time(runner: Runner) -> None:
    steps = (f"echo {unique()}; sleep 2", "sleep 2.5; echo never >/x")
    result = run(runner, *steps, step_timeout=4.0)
    assert result.reason is Reason.BUILD_FAILED
    assert "step 2" in str(result.error)
    # What was built in time stays for the next one.
    assert len(step_images(runner.config.server_id)) == 1
    assert run(runner, *steps, step_timeout=60.0).succeeded


def test_waiting_for_somebody_elses_build_counts(runner: Runner) -> None:
    steps = (f"echo {unique()}; sleep 5",)
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(run, runner, *steps)
        eventually(building, "it is being built")
        hasty = run(runner, *steps, step_timeout=1.0)
        assert hasty.reason is Reason.BUILD_FAILED
        assert "stepTimeout of 1 s" in str(hasty.error)
        # Whose build goes on undisturbed.
        assert not patient.done()
        assert patient.result().succeeded


@pytest.mark.parametrize("asked", [None, 100.0])
def test_no_more_time_than_the_runner_gives(start_runner: StartRunner, asked: float | None) -> None:
    runner = start_runner(step_timeout=1.5)
    result = run(runner, f"echo {unique()}; sleep 300", step_timeout=asked)
    assert result.reason is Reason.BUILD_FAILED
    assert "stepTimeout of 1.5 s" in str(result.error)
    assert not containers_of(runner.config.server_id)


@pytest.fixture
def with_volume() -> Iterator[str]:
    """An image with two volumes: one that the image has files for, one that it has not."""
    name = f"light-run-test-volume:{unique()}"
    repository, tag = name.split(":")
    with engine_api() as api:
        command = ["sh", "-c", "mkdir /data && echo old >/data/old && ln -s /nowhere /data/link"]
        container = api.create_container(BUSYBOX, command, host_config={"NetworkMode": "none"})["Id"]
        try:
            api.start(container)
            assert api.wait(container)["StatusCode"] == 0
            conf = {"Volumes": {"/data": {}, "/empty": {}}, "Cmd": ["sh"]}
            api.commit(container, repository, tag, conf=conf)
        finally:
            api.remove_container(container, force=True)
        yield name
        api.remove_image(name, force=True)


@pytest.mark.parametrize(
    ("step", "volume"),
    [
        ("echo new >/data/new", "/data"),
        ("printf OLD\\\\n >/data/old", "/data"),
        ("chmod 600 /data/old", "/data"),
        ("rm /data/link", "/data"),
        ("mkdir -p /empty/a/b", "/empty"),
    ],
)
def test_what_a_step_writes_to_a_volume_is_not_lost_silently(
    runner: Runner, with_volume: str, step: str, volume: str
) -> None:
    result = run(runner, f"echo {unique()}; {step}", entrypoint="ls /data /empty", image=with_volume)
    assert (result.reason, result.logs) == (Reason.BUILD_FAILED, ())
    assert f"changed files in {volume!r}" in str(result.error)
    assert "write somewhere else" in str(result.error)
    assert not containers_of(runner.config.server_id)
    assert not step_images(runner.config.server_id)


def test_steps_beside_the_volumes_of_an_image(runner: Runner, with_volume: str) -> None:
    # What is in a volume only meanwhile is not lost, and steps have no input.
    step = f"cat >/input; touch /data/lock; rm /data/lock; cat /data/old >/seen; echo {unique()}"
    result = run(
        runner, step, "echo 2 >>/seen", entrypoint="cat /seen /data/old /input; ls /empty", image=with_volume
    )
    assert (result.succeeded, result.logs) == (True, ("old", "2", "old")), result
