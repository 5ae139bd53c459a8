"""The map of the code names files that exist, and every package."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from light_run.actions import ACTIONS

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


def test_a_class_name_stands_in_one_module() -> None:
    modules: dict[str, list[str]] = {}
    for path in sorted((ROOT / "light_run").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                modules.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert modules
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}


def test_an_action_needs_at_most_ten_files() -> None:
    text = MAPS[0].read_text()
    recipe = text[text.index("A new action on a run\n") : text.index("A new setting\n")]
    named = set(PATHS.findall(recipe))
    # An action calls the engine, or makes a request of the thread that executes the run.
    calls = {"light_run/runs/ports.py", "light_run/engine/runner.py", "light_run/engine/daemon/containers.py"}
    requests = {"light_run/engine/stop.py", "light_run/engine/daemon/execution.py"}
    assert calls | requests < named
    assert len(named - requests) <= 10
    assert len(named - calls) <= 10


@pytest.mark.parametrize("action", [action.name for action in ACTIONS])
def test_the_recipe_names_every_file_that_knows_an_action(action: str) -> None:
    text = MAPS[0].read_text()
    recipe = text[text.index("A new action on a run\n") : text.index("A new setting\n")]
    named = set(PATHS.findall(recipe))
    word = f'"{action}"'
    knowing = {
        str(path.relative_to(ROOT))
        for package in ("api", "cli", "client")
        for path in (ROOT / "light_run" / package).rglob("*.py")
        if word in path.read_text()
    }
    assert knowing <= named
