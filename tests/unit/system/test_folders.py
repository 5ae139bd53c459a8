"""Folders of the server's own."""

from __future__ import annotations

import stat
from pathlib import Path

from light_run.system.folders import make_private


def test_every_folder_that_is_made_is_private(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o700] * 2


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    make_private(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750
