"""The documents are valid, and what they name is there."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import light_run
from light_run.config.settings import table
from tests.docs import rst
from tests.docs.settings_files import MANUAL, README, REPOSITORY

CHANGELOG = REPOSITORY / "CHANGELOG.rst"
DOCUMENTS: list[rst.Document] = [
    README,
    MANUAL,
    CHANGELOG,
    REPOSITORY / "SECURITY.rst",
    REPOSITORY / "docs" / "benchmarks.rst",
]
PAGES = sorted((REPOSITORY / "docs").rglob("*.rst"))

# As long as the README has this place for figures, the document they are taken from may be missing.
TO_COME = {".. benchmarks: the figures go here": "docs/benchmarks.rst"}


@pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: "manual" if isinstance(path, tuple) else path.name
)
def test_renders_without_a_warning(path: rst.Document) -> None:
    rst.document(path)


@pytest.mark.parametrize("path", [README, CHANGELOG], ids=lambda path: path.name)
def test_renders_by_the_command(path: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    # The changelog repeats its headings for each version, which is worth a notice to docutils.
    level = 2 if path is CHANGELOG else 1
    options = [f"--report={level}", f"--exit-status={level}"]
    command = [sys.executable, "-m", "docutils", *options, str(path), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "<h1" in page.read_text()


def test_every_page_with_an_example_is_executed() -> None:
    # The rest shows none; what is included or generated is held elsewhere.
    shown = {path for path in PAGES if "code-block" in path.read_text()}
    assert shown <= set(MANUAL)


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 250


def test_a_fault_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "bad.rst").write_text("Title\n===\n\n`nowhere`_\n")
    with pytest.raises(AssertionError, match="too short"):
        rst.document(tmp_path / "bad.rst")


def test_the_package_shows_the_readme() -> None:
    config = ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    assert config["metadata"]["long_description"] == "file: README.rst"
    assert config["metadata"]["long_description_content_type"] == "text/x-rst"


@pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: "manual" if isinstance(path, tuple) else path.name
)
def test_settings_that_are_named_exist(path: rst.Document) -> None:
    known = {variable.name for variable in table()} | {"LIGHT_RUN_", "LIGHT_RUN_URL"}
    named = {word for text in rst.literals(path) for word in re.findall(r"\bLIGHT_RUN_[A-Z_]*", text)}
    assert named <= known


def test_files_that_are_named_exist() -> None:
    pattern = re.compile(r"[\w.-]+/[\w./-]*|[A-Z]+\.rst|LICENSE|\.env\.example")
    media_types = {"application/octet-stream", "multipart/form-data", "text/event-stream", "text/html"}
    platforms = {"linux/amd64"}
    named = {text for text in rst.literals(MANUAL) if pattern.fullmatch(text)} - media_types - platforms
    assert len(named) > 3
    to_come = {name for marker, name in TO_COME.items() if marker in README.read_text()}
    assert sorted(text for text in named - to_come if not (REPOSITORY / text).exists()) == []


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^(\d+\.\d+\.\d+)[^\n]*\n-+$", CHANGELOG.read_text(), re.MULTILINE)
    assert versions[0] == light_run.__version__


def test_the_changelog_has_the_usual_headings() -> None:
    headings = set(re.findall(r"^(\w+)\n~+$", CHANGELOG.read_text(), re.MULTILINE))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert headings
