"""What removes what a run left: a container of the run's own image, which may lie about its shell."""

from __future__ import annotations

from pathlib import Path

from light_run.engine import RunnerConfig
from light_run.engine.files.workspace import Workspace
from light_run.engine.upkeep.leftovers import emptying_command
from tests.support.engine import BUSYBOX, engine_api

# What a shell does that a hostile image calls sh.
_HOSTILE = (
    "head -c 5000000 /dev/zero > /workspace/full; echo x > /elsewhere; head -c 5000000 /dev/zero; sleep 0"
)


def test_a_hostile_shell_fills_neither_disk_nor_log(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.create()
    config = RunnerConfig(server_id="test-leftovers", state_dir=tmp_path)
    asked = emptying_command(workspace, BUSYBOX, None, config)
    with engine_api() as api:
        container = api.create_container_from_config({**asked, "Entrypoint": ["sh", "-c", _HOSTILE]})["Id"]  # type: ignore[no-untyped-call]
        try:
            api.start(container)
            assert api.wait(container, timeout=60)["StatusCode"] == 0
            found = api.inspect_container(container)
            changes = {change["Path"] for change in api.diff(container) or []}
        finally:
            api.remove_container(container, force=True)
    assert [(file.name, file.stat().st_size) for file in workspace.files.iterdir()] == [("full", 0)]
    assert "/elsewhere" not in changes
    host = found["HostConfig"]
    assert (host["LogConfig"]["Type"], host["NetworkMode"], host["NanoCpus"]) == (
        "none",
        "none",
        1_000_000_000,
    )
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], ["DAC_OVERRIDE", "FOWNER"])
