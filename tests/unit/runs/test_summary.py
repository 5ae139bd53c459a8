"""What is kept of a request: enough to recognise it, nothing that is secret, never much."""

from __future__ import annotations

import json

from light_run.engine import Limits, RunSpec
from light_run.engine.spec import File
from light_run.runs.summary import summarise


def test_names_and_sizes_but_no_secrets() -> None:
    spec = RunSpec(
        image="alpine",
        files={"a/ü.txt": "ü", "b": b"123", "c": File(b"1")},
        entrypoint="sh a",
        stdin=b"secret-input",
        env={"TOKEN": "secret-value"},
        limits=Limits(memory=1, cpus=0.5, pids=3),
        network="one",
        networks=("two",),
    )
    text = summarise(spec, detached=True)
    assert "secret" not in text
    found = json.loads(text)
    assert found["files"] == [
        {"path": "a/ü.txt", "bytes": 2},
        {"path": "b", "bytes": 3},
        {"path": "c", "bytes": 1},
    ]
    assert (found["env"], found["networks"], found["limits"]["cpus"]) == (["TOKEN"], ["one", "two"], 0.5)
    assert "truncated" not in found
    assert "run" not in found


def test_it_stays_small() -> None:
    long = "x" * 2000
    for spec in (
        RunSpec(image="alpine", entrypoint=long),
        RunSpec(image="alpine", steps=("a",) * 50),
        RunSpec(
            image="i" * 300,
            entrypoint=long,
            steps=(long,) * 50,
            extract=(long,) * 20,
            workdir="/" + "w" * 199,
        ),
    ):
        text = summarise(spec, detached=False)
        assert len(text) <= 4096
        assert json.loads(text)["truncated"] is True
