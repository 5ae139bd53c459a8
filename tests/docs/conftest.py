"""A place where everything the documentation shows is executed: a server, a shell, and images for the names in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docs import rst
from tests.docs.settings_files import MANUAL, REPOSITORY
from tests.support.engine import BUSYBOX, PYTHON, missing_images
from tests.support.poll import eventually
from tests.support.server import Server, free_port, running_server, server_environment

BIN = Path(sys.executable).parent

# Registries cannot be reached everywhere: what the documentation calls by a public name, tests run on a stand-in.
IMAGES = {"alpine:3.19": BUSYBOX, "python:3.12-alpine": PYTHON}


@dataclass(frozen=True)
class Place:
    """A folder to execute examples in, with `.venv` and ports of its own in place of the documentation's."""

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: {"3000": free_port(), "8000": free_port()})

    def own(self, text: str) -> str:
        """`text` of the documentation for this place: images and ports that are here."""
        for name, image in IMAGES.items():
            text = text.replace(name, image)
        return re.sub(r"\b\d+\b", lambda match: str(self.ports.get(match[0], match[0])), text)

    def shown(self, text: str) -> str:
        """What came out here, as the documentation would show it."""
        for name, image in IMAGES.items():
            text = text.replace(image, name)
        return text

    def environment(self) -> dict[str, str]:
        """The environment of a user who follows the documentation."""
        return server_environment(self.folder, None, {})

    def prepare(self) -> None:
        """Put the virtual environment in, and every file that the documentation shows by its name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".venv").symlink_to(BIN.parent)
        (self.folder / "deploy").symlink_to(REPOSITORY / "deploy")
        for block in rst.blocks(MANUAL):
            if block.name is not None and "." in block.name:
                (self.folder / block.name).write_text(self.own(block.text) + "\n")


@pytest.fixture(scope="session", autouse=True)
def images() -> None:
    """Fail everything where there is no engine, or where it lacks an image."""
    missing = missing_images()
    assert not missing, f"run make test-engine first; missing: {', '.join(missing)}"


def named(name: str) -> rst.Block:
    """The documentation's block called `name`."""
    found = [block for block in rst.blocks(MANUAL) if block.name == name]
    assert len(found) == 1, f"{len(found)} blocks are called {name}"
    return found[0]


@contextmanager
def served(place: Place, name: str, command: str) -> Iterator[Server]:
    """A server started by the documentation's block `name`, whose `command` becomes the process itself."""
    script = place.own(named(name).text)
    assert re.search(rf"^{command} ", script, re.MULTILINE), script
    script = re.sub(rf"^{command} ", f"exec {command} ", script, flags=re.MULTILINE)
    settings = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    url = f"http://127.0.0.1:{place.ports['3000']}"
    with running_server(
        place.folder, command=["bash", "-euc", script], url=url, token=None, settings=settings
    ) as server:
        eventually(lambda: "workspace" in server.get("/health").json(), "workspaces were tried out")
        yield server


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a clone would have; no git is asked, there may be none."""
    made = [line.rstrip("/") for line in (REPOSITORY / ".gitignore").read_text().split()]
    ignore = shutil.ignore_patterns(".git", *made)
    return shutil.copytree(REPOSITORY, tmp_path / "checkout", ignore=ignore)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where the documentation's examples are executed."""
    place = Place(tmp_path_factory.mktemp("readme"))
    place.prepare()
    return place


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[Server]:
    """The server that the documentation starts."""
    with served(place, "serve", "light-run serve") as server:
        yield server


@dataclass(frozen=True)
class Outcome:
    """What became of one example; `code` is None where it was not reached."""

    code: int | None
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def shell(place: Place, server: Server) -> dict[str, Outcome]:
    """The outcome of every shell example by its place; one shell executes all of them, in order."""
    examples = [each.code for each in rst.examples(MANUAL) if each.code.language == "bash"]
    script = ["set -eu -o pipefail"]
    for block in examples:
        script += ["{", place.own(block.text), f"}} >{block.place}.out 2>{block.place}.err"]
        script += [f"echo 0 >{block.place}.code"]
    (place.folder / "session.sh").write_text("\n".join(script) + "\n")
    subprocess.run(
        ["bash", "session.sh"],
        cwd=place.folder,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    return {block.place: _outcome(place.folder / block.place) for block in examples}


def _outcome(stem: Path) -> Outcome:
    def read(suffix: str) -> str:
        path = stem.with_name(stem.name + suffix)
        return path.read_text() if path.exists() else ""

    return Outcome(int(read(".code")) if read(".code") else None, read(".out"), read(".err"))
