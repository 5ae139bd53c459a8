"""What a cgroup says of kills at the memory limit, in the places where engines have them."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from light_run.engine.daemon import memory
from light_run.engine.daemon.memory import MemoryEvents

ID = "0123456789abcdef" * 4
USER = os.getuid()
PLACES = [
    f"docker/{ID}",
    f"system.slice/docker-{ID}.scope",
    f"libpod_parent/libpod-{ID}",
    f"machine.slice/libpod-{ID}.scope",
    f"user.slice/user-{USER}.slice/user@{USER}.service/user.slice/docker-{ID}.scope",
    f"user.slice/user-{USER}.slice/user@{USER}.service/user.slice/libpod-{ID}.scope",
]
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 0\nmax 71\noom 9\noom_kill {}\noom_group_kill 0\n"


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    return tmp_path


def counts(root: Path, place: str, version: int) -> Path:
    """The file that has the count, with the cgroup around it."""
    if version == 2:
        (root / "cgroup.controllers").touch()
    folder = root / place if version == 2 else root / "memory" / place
    folder.mkdir(parents=True)
    return folder / ("memory.events" if version == 2 else "memory.oom_control")


@pytest.mark.parametrize(("version", "text"), [(1, V1), (2, V2)])
@pytest.mark.parametrize("place", PLACES)
def test_the_kernels_count(cgroups: Path, place: str, version: int, text: str) -> None:
    file = counts(cgroups, place, version)
    file.write_text(text.format(2))
    with closing(MemoryEvents(ID)) as events:
        events.open()
        assert events.kills == 2
        file.write_text(text.format(13))
        assert events.look()
        assert events.kills == 13
        events.reported()
        assert events.kills == 13
    assert events.kills == 13


def test_a_cgroup_that_is_not_there(cgroups: Path) -> None:
    with closing(MemoryEvents(ID)) as events:
        events.open()
        assert (events.kills, events.poll, events.look()) == (0, None, False)
        events.reported()
        events.reported()
        # The engine reports one kill more than once.
        assert events.kills == 1


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill -1\n", "not_oom_kill 3\n", "oom_kill x\n"])
def test_a_kernel_that_does_not_count(cgroups: Path, text: str) -> None:
    # Before Linux 4.13, there is no such line.
    counts(cgroups, PLACES[0], 1).write_text(text)
    with closing(MemoryEvents(ID)) as events:
        events.open()
        assert events.kills == 0


@pytest.mark.parametrize("container", ["", "a", "../" + "0" * 61, "A" * 64])
def test_what_is_no_id_is_not_looked_for(cgroups: Path, container: str) -> None:
    counts(cgroups, "docker", 1).write_text(V1.format(1))
    with closing(MemoryEvents(container)) as events:
        events.open()
        assert events.kills == 0
