"""The state directory: made, locked, named."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from light_run.errors import SettingsError
from light_run.server import state_dir

HOLD = """
    import sys
    from pathlib import Path
    from light_run.server import state_dir
    state_dir.lock(Path(sys.argv[1]))
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_folders_are_made_and_closed_to_others(tmp_path: Path) -> None:
    state, artifacts = tmp_path / "a" / "state", tmp_path / "artifacts"
    state_dir.prepare(state, artifacts)
    assert state.stat().st_mode & 0o777 == 0o700
    assert artifacts.is_dir()
    state_dir.prepare(state, artifacts)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="LIGHT_RUN_STATE_DIR"):
        state_dir.prepare(tmp_path / "file" / "state", tmp_path)
    with pytest.raises(SettingsError, match="LIGHT_RUN_ARTIFACTS_DIR"):
        state_dir.prepare(tmp_path, tmp_path / "file")


def test_the_server_id_stays(tmp_path: Path) -> None:
    first = state_dir.identify(tmp_path)
    assert first == state_dir.identify(tmp_path)
    assert (len(first.server_id), first.copied) == (36, False)
    assert sorted(os.listdir(tmp_path)) == ["server-id", "server-id.inode"]
    (tmp_path / "server-id").write_text("")
    emptied = state_dir.identify(tmp_path)
    assert (len(emptied.server_id), emptied.copied) == (36, False)
    assert emptied == state_dir.identify(tmp_path)


def test_the_id_of_0_3_is_kept_and_bound(tmp_path: Path) -> None:
    (tmp_path / "server-id").write_text("of-0.3\n")
    for _ in range(2):
        assert state_dir.identify(tmp_path) == state_dir.Identity("of-0.3")


def test_a_moved_directory_keeps_its_id_and_a_copy_gets_one_of_its_own(tmp_path: Path) -> None:
    original, moved, copy = tmp_path / "original", tmp_path / "moved", tmp_path / "copy"
    original.mkdir()
    first = state_dir.identify(original)
    original.rename(moved)
    assert state_dir.identify(moved) == first
    subprocess.run(["cp", "-a", moved, copy], check=True)
    found = state_dir.identify(copy)
    assert found.copied
    assert found.server_id != first.server_id
    # Once it has its own, it is no copy any more.
    assert state_dir.identify(copy) == state_dir.Identity(found.server_id)
    assert state_dir.identify(moved) == first


def test_one_process_may_lock_twice(tmp_path: Path) -> None:
    state_dir.lock(tmp_path)
    state_dir.lock(tmp_path)
    state_dir.unlock(tmp_path)
    state_dir.unlock(tmp_path)


def test_another_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(SettingsError, match=f"process {holder.pid}"):
            state_dir.lock(tmp_path)
        asked: list[int] = []

        def wait(owner: int) -> bool:
            asked.append(owner)
            holder.kill()
            holder.wait()
            return True

        state_dir.lock(tmp_path, wait)
        assert asked[0] == holder.pid
        state_dir.unlock(tmp_path)
