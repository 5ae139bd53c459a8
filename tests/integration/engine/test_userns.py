"""An engine with ``userns-remap``, on which root in a container is another user on the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from light_run import Runner, RunSpec
from light_run.engine import Destinations, RunnerConfig
from tests.support.engine import BUSYBOX, NONROOT, containers_of
from tests.support.poll import eventually, until_nothing
from tests.support.private_engine import private_engine


@pytest.fixture(scope="module")
def remapping() -> Iterator[str]:
    """The address of such an engine."""
    with private_engine(BUSYBOX, NONROOT, options=["--userns-remap", "default"]) as engine:
        yield engine.address


@pytest.mark.parametrize("workspace", ["auto", "bind"])
@pytest.mark.parametrize("image", [BUSYBOX, NONROOT])
def test_posted_files_belong_to_root(
    remapping: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, workspace: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", remapping)
    config = RunnerConfig(
        server_id="userns",
        state_dir=tmp_path / "state",
        workspace=workspace,
        default_network="none",
        parked_pins={BUSYBOX: 1},
    )
    script = "cat in; echo x >>in; echo made >out"
    if image == BUSYBOX:
        script = "stat -c %u in; chmod 600 in; touch -d 2020-01-01 in; " + script
    spec = RunSpec(image=image, files={"in": "file\n"}, entrypoint=script, extract=("out",), timeout=60.0)
    with Runner(config) as runner:
        runner.open()
        if image == BUSYBOX:
            eventually(lambda: runner.parked == 1, "one is parked")
        result = runner.run(spec, to=Destinations(artifacts=tmp_path / "artifacts"))
        assert result.succeeded, result
        assert result.logs == (("0", "file") if image == BUSYBOX else ("file",))
        assert (tmp_path / "artifacts" / "out").read_text() == "made\n"
        assert runner.health().workspace == "archive"
    until_nothing(lambda: containers_of("userns", remapping), "no container is left")
