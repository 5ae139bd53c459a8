"""SECURITY.rst: the tests that it names are there, and the code is looked through as it says."""

from __future__ import annotations

import re

from light_run.config.settings import table
from tests.docs import rst
from tests.docs.settings_files import REPOSITORY

SECURITY = REPOSITORY / "SECURITY.rst"


def test_every_promise_names_tests_that_are_there() -> None:
    promises = rst.table(SECURITY, "promises-table")
    assert len(promises) > 10
    for promise, cell in promises:
        named = re.findall(r"tests/[\w/]+\.py", cell)
        assert named, f"no test is named for: {promise}"
        for name in named:
            path = REPOSITORY / name
            assert path.is_file(), f"{name} is not there"
            assert re.search(r"^def test_", path.read_text(), re.MULTILINE), f"{name} has no tests"


def test_settings_that_are_named_exist() -> None:
    named = set(re.findall(r"LIGHT_RUN_[A-Z_]+", SECURITY.read_text()))
    assert named <= {variable.name for variable in table()}


def test_make_check_looks_for_known_holes() -> None:
    recipe = (REPOSITORY / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "bandit" in recipe
    assert "scripts/audit.py" in recipe
