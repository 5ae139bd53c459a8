"""The map of the code names files that exist, and every package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAPS = [ROOT / "docs" / "architecture.rst", ROOT / "CONTRIBUTING.rst"]
PATHS = re.compile(r"``((?:light_run|tests|docs)/[\w./-]*|[A-Z]+\.rst|setup\.cfg)``")


@pytest.mark.parametrize("page", MAPS, ids=lambda page: page.name)
def test_every_path_exists(page: Path) -> None:
    named = PATHS.findall(page.read_text())
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_package_is_on_the_map() -> None:
    text = MAPS[0].read_text()
    packages = [
        f"{folder.relative_to(ROOT)}/"
        for folder in sorted((ROOT / "light_run").rglob("*"))
        if (folder / "__init__.py").exists()
    ]
    assert [package for package in packages if f"``{package}``" not in text] == []
