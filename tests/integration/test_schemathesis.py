"""The API, held by schemathesis to the document it publishes of itself: requests right and wrong, and chains of them.

LIGHT_RUN_FUZZ_EXAMPLES is how many of each kind an operation gets at most; a few thousand are a night's work.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from light_run.config import tokens
from tests.support import fuzzing
from tests.support.described import closed
from tests.support.server import REPOSITORY, Server, log_events, running_server

EXAMPLES = int(os.environ.get("LIGHT_RUN_FUZZ_EXAMPLES", "15"))

# A part of a file that is beyond its end is asked for in the right way; 5xx is not to be answered at all.
# A run that has ended is not there to be cancelled, nor one that asked for no callback to have it sent again.
CONFIG = """
[auth.openapi.bearer]
bearer = "{token}"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "416", "429"]
"""
NOT_CHECKED = ["ensure_resource_availability"]
if sys.version_info < (3, 11):
    # The last one for Python 3.10 takes a parameter that is ignored for one that is wrong.
    NOT_CHECKED.append("negative_data_rejection")
NETWORKS = "^/networks"


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that believes what its requests say of where they come from, with a token that may only look."""
    folder = tmp_path_factory.mktemp("fuzzed")
    settings = {
        "LIGHT_RUN_TOKENS_FILE": str(folder / "tokens.json"),
        "LIGHT_RUN_TRUSTED_PROXIES": "127.0.0.1",
        "LIGHT_RUN_CALLBACK_LIFETIME": "0",
    }
    (folder / "looking").write_text(tokens.create(folder / "tokens.json", "looking", ["read"]))
    with running_server(folder, settings=settings) as server:
        yield server
        server.request("POST", "/networks/cleanup", json={"maxAgeMs": 0})


def schemathesis(
    server: Server, folder: Path, token: str, *options: str, not_checked: Sequence[str] = ()
) -> int:
    """Have schemathesis find nothing wrong; returns how many requests it made."""
    excluded = ",".join([*NOT_CHECKED, *not_checked])
    checks = ("--checks=all", f"--exclude-checks={excluded}")
    kept = server.run(entrypoint=fuzzing.KEEPING, extract=["kept", "d"])
    (folder / "openapi.json").write_text(json.dumps(closed(server.get("/openapi.json").json())))
    (folder / "schemathesis.toml").write_text(CONFIG.format(token=token))
    command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", server.url]
    command += ["--generation-deterministic", *checks, "--continue-on-failure", "--no-color", *options]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        "SCHEMATHESIS_HOOKS": fuzzing.__name__,
        "LIGHT_RUN_FUZZ_RUN": kept["id"],
        "LIGHT_RUN_FUZZ_TOKEN": server.token or "",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.stdout.write(done.stdout)
    count = re.search(r"([\d,]+) generated", done.stdout)
    assert count is not None, done.stdout
    return int(count[1].replace(",", ""))


def answered(server: Server) -> Counter[int]:
    """How often each status has been answered."""
    return Counter(event["status"] for event in log_events(server.stderr) if event.get("event") == "request")


@pytest.mark.timeout(120 + 10 * EXAMPLES)
def test_everything_is_as_it_says(fuzzed: Server, tmp_path: Path) -> None:
    options = (f"--max-examples={EXAMPLES}", f"--exclude-path-regex={NETWORKS}")
    assert schemathesis(fuzzed, tmp_path, fuzzed.token or "", *options) > 500
    statuses = answered(fuzzed)
    assert {200, 202, 204, 400, 401, 404, 405} <= set(statuses)
    assert max(statuses) < 500, statuses


@pytest.mark.timeout(120 + 10 * EXAMPLES)
def test_networks_are_as_they_say(fuzzed: Server, tmp_path: Path) -> None:
    options = (f"--max-examples={EXAMPLES}", f"--include-path-regex={NETWORKS}")
    # GET says whether there is a network: it is a 200 also for one that was deleted.
    count = schemathesis(fuzzed, tmp_path, fuzzed.token or "", *options, not_checked=["use_after_free"])
    assert count > 50
    assert max(answered(fuzzed)) < 500


@pytest.mark.timeout(120 + 10 * EXAMPLES)
def test_so_it_is_to_a_token_that_may_only_look(fuzzed: Server, tmp_path: Path) -> None:
    token = (fuzzed.folder / "looking").read_text()
    schemathesis(fuzzed, tmp_path, token, f"--max-examples={EXAMPLES // 2 + 1}", "--phases=fuzzing")
    statuses = answered(fuzzed)
    assert {200, 403} <= set(statuses)
    assert max(statuses) < 500, statuses


def test_no_error_was_logged(fuzzed: Server) -> None:
    assert [event for event in log_events(fuzzed.stderr) if event["level"] in {"error", "critical"}] == []
