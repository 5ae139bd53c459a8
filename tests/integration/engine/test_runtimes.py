"""gVisor under a Runner: what is written inside has to come out of a mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from light_run import RunSpec
from light_run.engine import Destinations
from tests.integration.engine.conftest import StartRunner
from tests.support.engine import BUSYBOX, WORKDIR, engine_api


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    """Fail where the engine has no runsc: ``scripts/ensure-engine --with-runsc`` registers it."""
    with engine_api() as api:
        assert "runsc" in api.info()["Runtimes"], "the engine has no runtime runsc"


@pytest.mark.parametrize("image", [BUSYBOX, WORKDIR])
@pytest.mark.parametrize("workspace", ["bind", "archive"])
def test_an_artifact_comes_out(
    start_runner: StartRunner, artifacts: Path, workspace: str, image: str
) -> None:
    runner = start_runner(workspace=workspace, runtime="runsc")
    spec = RunSpec(
        image=image,
        network="none",
        files={"in": "in\n"},
        entrypoint="dmesg | grep -ci gvisor; cat in; mkdir -p out; echo made >out/f",
        extract=("out",),
        timeout=60.0,
    )
    result = runner.run(spec, to=Destinations(artifacts=artifacts))
    assert result.succeeded, result
    assert int(result.logs[0]) > 0
    assert result.logs[1] == "in"
    assert (artifacts / "f").read_text() == "made\n"
