"""The commands that set everything up: what the documentation says they are and print."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from tests.docs import normal
from tests.docs.conftest import BIN, IMAGES, named
from tests.docs.settings_files import REPOSITORY

# As if the environment had been made: it is the one that runs this test.
MADE = ["-o", ".venv/installed", "-o", ".venv/installed-dev", f"BIN={BIN}"]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the checkout, with this environment for its own."""
    return subprocess.run(
        ["make", "--no-print-directory", *MADE, *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def targets(block: str) -> list[list[str]]:
    """What the documentation's block of that name gives to make, a line each."""
    lines = named(block).text.splitlines()
    assert all(line.startswith("make ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


def test_make_demo_prints_what_is_shown() -> None:
    assert ["demo"] in targets("set-up-commands")
    done = make("demo")
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    for name, image in IMAGES.items():
        printed = printed.replace(image, name)
    assert normal.text(printed) == normal.text(named("demo-output").text)


def test_the_demo_fails_where_the_run_does() -> None:
    command = [sys.executable, "scripts/demo.py", "light-run-test/noshell:latest"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "demo: " in done.stderr


@pytest.mark.parametrize("block", ["set-up-commands", "development-commands", "engines-command"])
def test_targets_exist(block: str) -> None:
    for arguments in targets(block):
        done = make("--dry-run", *arguments)
        assert done.returncode == 0, done.stderr
        assert f"{BIN}/" in done.stdout


def test_arguments_reach_pytest() -> None:
    arguments = next(each for each in targets("development-commands") if each[0] == "test")
    assert arguments == ["test", "ARGS=tests/unit"]
    assert (
        f"{BIN}/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 tests/unit\n"
        in make("--dry-run", "WORKERS=2", *arguments).stdout
    )


def test_what_the_readme_says_of_each_target() -> None:
    def recipe(target: str) -> str:
        return make("--dry-run", target).stdout

    assert "scripts/ensure-engine" in recipe("demo")
    assert "scripts/ensure_images.py --demo" in recipe("demo")
    assert "scripts/ensure-test-tools" in recipe("test")
    assert all(tool in recipe("check") for tool in ("ruff format", "ruff check", "mypy", "lint-imports"))
    assert "help" not in make().stderr
    assert {line.split()[1] for line in make().stdout.splitlines()} >= {"demo", "test", "check", "bench"}
