"""What a cgroup says of CPU time and memory, in either version, and when that is read."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from light_run.engine.daemon import memory
from light_run.engine.daemon.accounting import Accounting
from light_run.engine.daemon.signals import signal_of
from tests.unit.engine.daemon.test_memory import ID, PLACES


class Cgroup:
    """A cgroup as the kernel shows it, with one process."""

    def __init__(self, root: Path, place: str, version: int, process: int) -> None:
        self.version = version
        if version == 2:
            (root / "cgroup.controllers").touch()
        self.cpu = root / ("" if version == 2 else "cpuacct") / place
        self.memory = root / ("" if version == 2 else "memory") / place
        for folder in (self.cpu, self.memory):
            folder.mkdir(parents=True, exist_ok=True)
        (self.memory / "cgroup.procs").write_text(f"{process}\n{process + 1}\n")

    def count(self, milliseconds: int, peak: int) -> None:
        if self.version == 2:
            (self.cpu / "cpu.stat").write_text(f"usage_usec {milliseconds}000\nuser_usec 1\nsystem_usec 2\n")
            (self.memory / "memory.peak").write_text(f"{peak}\n")
        else:
            (self.cpu / "cpuacct.usage").write_text(f"{milliseconds}000000\n")
            (self.memory / "memory.max_usage_in_bytes").write_text(f"{peak}\n")


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for its end."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_the_kernels_count_at_the_end(
    cgroups: Path, process: subprocess.Popen[bytes], place: str, version: int
) -> None:
    cgroup = Cgroup(cgroups, place, version, process.pid)
    cgroup.count(5, 1000)
    with closing(Accounting(ID)) as accounting:
        accounting.begin()
        assert accounting.poll is not None
        poll = select.poll()
        poll.register(*accounting.poll)
        assert (poll.poll(0), accounting.cpu_ms, accounting.memory_peak_bytes) == ([], None, None)
        cgroup.count(35, 4000)
        process.kill()
        assert poll.poll(30_000)
        accounting.look()
    # What was used before the command began is not its own.
    assert (accounting.cpu_ms, accounting.memory_peak_bytes) == (30, 4000)


def test_a_kernel_without_the_peak(cgroups: Path, process: subprocess.Popen[bytes]) -> None:
    cgroup = Cgroup(cgroups, PLACES[0], 2, process.pid)
    cgroup.count(5, 1)
    (cgroup.memory / "memory.peak").unlink()
    with closing(Accounting(ID)) as accounting:
        accounting.open()
        accounting.look()
        assert (accounting.cpu_ms, accounting.memory_peak_bytes) == (5, None)


@pytest.mark.parametrize("processes", ["", "0\n", None])
def test_nothing_is_known_without_the_first_process(cgroups: Path, processes: str | None) -> None:
    cgroup = Cgroup(cgroups, PLACES[0], 2, 1)
    cgroup.count(5, 1)
    if processes is None:
        (cgroup.memory / "cgroup.procs").unlink()
    else:
        (cgroup.memory / "cgroup.procs").write_text(processes)
    with closing(Accounting(ID)) as accounting:
        accounting.open()
        assert accounting.poll is None
        accounting.look()
        assert (accounting.cpu_ms, accounting.memory_peak_bytes) == (None, None)


def test_signals_in_exit_codes() -> None:
    assert [signal_of(code) for code in (137, 139, 143)] == ["SIGKILL", "SIGSEGV", "SIGTERM"]
    assert not any(map(signal_of, (0, 1, 127, 128, 193, 255)))
