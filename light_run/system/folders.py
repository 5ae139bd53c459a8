"""Folders of this process's own, which nobody else may look into."""

from __future__ import annotations

from pathlib import Path


def make_private(folder: Path) -> None:
    """Create `folder` and whatever is missing above it, with mode 0700; one that is there stays. Raises OSError."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    # The modes of `mkdir(parents=True)` are of the last folder alone.
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
