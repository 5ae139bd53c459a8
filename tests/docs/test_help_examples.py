"""The examples of every ``--help``, which the documentation has too: one shell executes them all."""

from __future__ import annotations

import re
import subprocess

import click
import pytest

from light_run.cli import main
from tests.docs.conftest import Place
from tests.support.server import Server

# In an order in which each finds what it is about.
ORDER = (
    *("token", "token list", "token remove", "token new"),
    *("run", "ps", "logs", "artifacts", "cp", "wait", "doctor", "pause", "resume", "cancel", "stop", "rm"),
    *("network", "network create", "network exists", "network rm", "network prune", "maintenance"),
)
# The run that each of these needs; the others take one that has ended.
RUNS = {**dict.fromkeys(("pause", "resume", "cancel"), "$at_work"), "stop": "$stopping"}
# One never ends, and starts the server of these; another's are for three shells, which are asked elsewhere; and one
# would set rules of this machine's packet filter, in place of those of an engine of the tests' own.
ELSEWHERE = {"serve", "completion", "firewall"}

BEFORE = """
. .venv/bin/activate
export LIGHT_RUN_URL=http://127.0.0.1:3000 LIGHT_RUN_TOKEN=change-me-please LIGHT_RUN_TOKENS_FILE=tokens.json
mkdir src; echo 1 > src/one; seq 3 > data.csv
echo 'import sys; open("sums.csv", "w").write(str(sum(map(int, sys.stdin))))' > main.py
# Not everybody has that program.
echo '{"username": "ada", "password": "secret"}' > auth.json
jq() { python -c 'import json, sys; [print(run["id"]) for run in json.load(sys.stdin)]'; }
begin() { light-run run --detach alpine:3.19 -x . -- sh -c "$@"; }
ended() { local id=$(begin "$@"); light-run wait $id > code || true; echo $id; }
run=$(ended 'echo 2 > sums.csv; echo 1 >> sums.csv; touch report.pdf'); failed=$(ended 'exit 1'); ended 'exit 2'
at_work=$(begin 'echo up; sleep 600'); stopping=$(begin 'echo up; sleep 600')
for id in $at_work $stopping; do until [ "$(light-run logs $id)" ]; do sleep 0.1; done; done
set -eu -o pipefail
"""


def examples(command: str) -> list[str]:
    """The examples of ``light-run command``."""
    found: click.Command = main
    for word in command.split():
        assert isinstance(found, click.Group)
        found = found.commands[word]
    below = re.split(r"^ *Examples?:\n", found.help or "", flags=re.MULTILINE)[1]
    return [line.strip() for line in below.partition("\n\n")[0].splitlines() if line.strip()]


@pytest.mark.timeout(400)
def test_the_examples_of_every_help(place: Place, server: Server) -> None:
    top = {name for name in main.commands if name not in ELSEWHERE}
    assert {command.split()[0] for command in ORDER} == top
    script = [BEFORE]
    for command in ORDER:
        for example in examples(command):
            line = example.replace("3f2a", RUNS.get(command, "$run"))
            line = line.replace("81c0", "$failed").replace("https://runs.example.com", server.url)
            script.append(f"echo; echo {command!r}; {line}")
    done = subprocess.run(
        ["bash", "-c", place.own("\n".join(script))],
        cwd=place.folder,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nrun\nhello\n" in done.stdout
    assert "\ncp\n1\n2\n" in done.stdout
    assert (place.folder / "results" / "sums.csv").read_text() == "2\n1\n"
    server.wait_clean()
