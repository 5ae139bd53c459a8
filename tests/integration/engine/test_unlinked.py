"""What a run holds open and has unlinked counts as well; a disk that is nearly full; quotas of the engine."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from light_run import RunSpec
from light_run.engine import Reason, RunnerConfig
from light_run.engine.daemon import memory
from light_run.engine.daemon.client import Engine
from light_run.engine.sandbox.options import never_started
from tests.integration.engine.conftest import StartRunner
from tests.support.engine import BUSYBOX

MIB = 1024 * 1024
FILL = "exec 3>{0}/x; rm {0}/x; dd if=/dev/zero bs=1M count=60 >&3 2>/dev/null; sleep 600"


@pytest.mark.parametrize("place", ["/app", "/tmp"])
@pytest.mark.parametrize("workspace", ["bind", "archive"])
def test_a_file_without_a_name_fills_the_disk(start_runner: StartRunner, workspace: str, place: str) -> None:
    runner = start_runner(workspace=workspace, workspace_cap=20 * MIB)
    result = runner.run(RunSpec(image=BUSYBOX, entrypoint=FILL.format(place), network="none", timeout=60))
    assert result.reason is Reason.DISK_LIMIT, result


def test_a_file_in_memory_does_not_count(start_runner: StartRunner) -> None:
    runner = start_runner(workspace_cap=5 * MIB)
    command = "exec 3>/dev/shm/x; rm /dev/shm/x; dd if=/dev/zero bs=1M count=20 >&3 2>/dev/null; sleep 3"
    result = runner.run(RunSpec(image=BUSYBOX, entrypoint=command, network="none", timeout=60))
    assert result.succeeded, result


def test_a_file_held_by_many_counts_once(start_runner: StartRunner) -> None:
    runner = start_runner(workspace_cap=20 * MIB)
    command = "exec 3>x; rm x; dd if=/dev/zero bs=1M count=12 >&3 2>/dev/null; for i in 1 2 3; do sleep 3 & done; wait"
    result = runner.run(RunSpec(image=BUSYBOX, entrypoint=command, network="none", timeout=60))
    assert result.succeeded, result
    assert result.usage.disk_bytes is not None
    assert 12 * MIB <= result.usage.disk_bytes < 20 * MIB


def test_where_nobody_may_look_the_rest_still_counts(
    start_runner: StartRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "cgroup_folders", lambda *_: iter(()))
    monkeypatch.setattr("light_run.engine.sandbox.open_files.cgroup_folders", lambda *_: iter(()))
    runner = start_runner(workspace_cap=5 * MIB)
    spec = RunSpec(image=BUSYBOX, entrypoint="head -c 50000000 /dev/urandom > f; sleep 60", network="none")
    assert runner.run(spec).reason is Reason.DISK_LIMIT


def test_the_run_that_has_written_the_most_ends_while_little_is_free(
    start_runner: StartRunner, tmp_path: Path
) -> None:
    total = shutil.disk_usage(tmp_path).total
    runner = start_runner(disk_reserve=2 * total)
    spec = RunSpec(image=BUSYBOX, entrypoint="head -c 30000000 /dev/urandom > f; sleep 60", network="none")
    result = runner.run(spec)
    assert result.reason is Reason.DISK_LIMIT, result
    assert "the disk had less than" in str(result.error)


def test_a_quota_that_the_engine_s_storage_does_not_have_is_done_without(start_runner: StartRunner) -> None:
    with closing(Engine()) as engine:
        engine._features = engine.features()._replace(quota=True)
        config = never_started(BUSYBOX, RunnerConfig(), StorageOpt={"size": "1000000000"})
        container = engine.create(config)
        try:
            # The storage of an engine for tests has none; one that has takes it, and keeps to it.
            asked = engine.inspect(container)["HostConfig"].get("StorageOpt")
            assert engine.features().quota == (asked == {"size": "1000000000"})
        finally:
            engine.remove(container)
