"""Run the tests that hold on every engine against each that this machine can have: ``make engines``.

    .venv/bin/python scripts/engines.py [ENGINE...] [--workers N]

The tests are those with the marker ``engines``. Each engine is a private one, started for them with nothing on its
disk, and gone afterwards. Prints a table of engines and groups of tests, and why an engine cannot be had here. The exit
code is 1 if a test failed, or if an engine that was named cannot be had.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

# Started as a file, the script has only its own folder on its path.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.abilities import VARIABLE
from tests.support.engines import TITLES, Started, started, unavailable

REPOSITORY = Path(__file__).resolve().parents[1]
GROUPS = ("contract", "parity", "hostile", "recovery")
PACKAGES = ("crun", "rootlesskit", "slirp4netns", "uidmap")
# Not started by this command.
ELSEWHERE = "Docker and Podman of other releases: run make engines on a machine that has them"


def main() -> int:
    """Do it; the exit code."""
    options = argparse.ArgumentParser(
        description="run the tests that hold on every engine against each of them"
    )
    options.add_argument(
        "engines", nargs="*", metavar="ENGINE", help=f"by default all of: {', '.join(TITLES)}"
    )
    options.add_argument("--workers", default="2", help="tests at the same time")
    asked = options.parse_args()
    if unknown := [name for name in asked.engines if name not in TITLES]:
        options.error(f"unknown engine {unknown[0]!r}; there are: {', '.join(TITLES)}")
    subprocess.run([REPOSITORY / "scripts" / "apt-install", *PACKAGES], check=False)
    rows, failed = [], False
    for name in asked.engines or TITLES:
        if reason := unavailable(name):
            rows.append([TITLES[name], f"cannot be had here: {reason}"])
            failed |= bool(asked.engines)
            continue
        print(f"engines: {TITLES[name]}", flush=True)
        begun = time.monotonic()
        cells, ended_well = tried(name, asked.workers)
        failed |= not ended_well
        rows.append([TITLES[name], *cells, f"{time.monotonic() - begun:.0f} s"])
    print(table([["engine", *GROUPS, "time"], *rows]))
    print(ELSEWHERE)
    return int(failed)


def tried(name: str, workers: str) -> tuple[list[str], bool]:
    """The cells of an engine's row, passed/failed a group, and whether all tests passed."""
    with started(name) as engine, tempfile.TemporaryDirectory(prefix="light-run-engines-") as folder:
        os.chmod(folder, 0o777)
        report = Path(folder) / "report.xml"
        code = run_tests(engine, name, workers, report)
        if not report.exists():
            return [f"pytest exited with {code}"] * len(GROUPS), False
        counts = counted(report)
    cells = [f"{counts[group, True]}/{counts[group, False]}" for group in GROUPS]
    return cells, code == 0 and all(counts[group, True] for group in GROUPS)


def run_tests(engine: Started, name: str, workers: str, report: Path) -> int:
    """Run them as whoever uses the engine; pytest's exit code."""
    pytest = [sys.executable, "-m", "pytest", "-m", "engines", "-q", "-p", "no:cacheprovider"]
    command = [*pytest, "-n", workers, "--dist", "loadfile", f"--junitxml={report}"]
    command += ["--basetemp", str(report.with_name("tests")), "tests/integration"]
    environment = {**engine.environment, VARIABLE: name}
    if engine.user is not None:
        # The environment, and the Python that it was made with.
        readable = [REPOSITORY, *{Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}]
        return engine.user.run(command, environment, REPOSITORY, readable)
    return subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **environment}, check=False).returncode


def counted(report: Path) -> Counter[tuple[str, bool]]:
    """How many tests of each group passed, and how many did not."""
    counts: Counter[tuple[str, bool]] = Counter()
    for case in ET.parse(report).iter("testcase"):
        group = next(
            (each.get("value") for each in case.iter("property") if each.get("name") == "group"), None
        )
        passed = not any(case.find(outcome) is not None for outcome in ("failure", "error", "skipped"))
        # A module that cannot be imported is no test of any group.
        counts[group or GROUPS[0], passed] += 1
    return counts


def table(rows: Sequence[Sequence[str]]) -> str:
    """The rows as text in columns."""
    widths: Mapping[int, int] = {
        column: max(len(row[column]) for row in rows if len(row) > 2) for column in range(len(rows[0]))
    }
    widths = {**widths, 0: max(len(row[0]) for row in rows)}
    return "\n".join("  ".join(cell.ljust(widths[column]) for column, cell in enumerate(row)) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
