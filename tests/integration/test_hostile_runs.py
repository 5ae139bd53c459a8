"""Containers that want to fill this machine's disk, by what they leave and by what they write."""

from __future__ import annotations

import pytest

from tests.integration.conftest import StartServer
from tests.support.engine import PYTHON

MIB = 1024 * 1024
ENTRIES, CAP = 1000, 64 * MIB
SETTINGS = {"LIGHT_RUN_EXTRACT_ENTRIES": str(ENTRIES), "LIGHT_RUN_MAX_WORKSPACE_BYTES": str(CAP)}

# A million names; what is beyond the cap is not even looked at. A file has 65 000 names at most.
LEAVE = """
import os
for folder in range(20):
    os.makedirs(f"many/{folder}")
    os.chdir(f"many/{folder}")
    open("file", "w").close()
    for number in range(50_000):
        os.link("file", str(number))
    os.chdir("../..")
os.truncate(os.open("sparse", os.O_CREAT | os.O_WRONLY), 5 << 30)
open("good", "w").write("good")
"""


@pytest.mark.timeout(600)
def test_what_is_left_and_what_is_written_is_bounded(start_server: StartServer) -> None:
    server = start_server(settings=SETTINGS)
    filling = "cat /dev/urandom > {}; sleep 600"
    places = ("f", "/tmp/f", "/etc/hosts", "/etc/hostname")
    runs = {place: server.start(entrypoint=filling.format(place), extract=["x"]) for place in places}
    left = server.run(
        image=PYTHON,
        files={"m.py": LEAVE},
        entrypoint="python3 m.py",
        extract=["good", "sparse", "many"],
        timeout=400_000,
    )
    assert (left["status"], left.get("logs", [])) == ("succeeded", []), left
    good, sparse, many = left["extracted"]
    assert (good["status"], sparse["status"], many["status"]) == ("ok", "error", "error"), left
    assert "larger" in sparse["error"]
    assert str(ENTRIES) in many["error"]
    assert server.artifact(left["id"], "good").content == b"good"

    for place, run_id in runs.items():
        state = server.wait_done(run_id)
        assert (state["status"], state["reason"]) == ("failed", "disk_limit"), (place, state)
        assert str(CAP) in state["error"]
    taken = [path.lstat() for path in server.artifacts_dir.rglob("*")]
    assert len(taken) <= ENTRIES + 2
    assert sum(status.st_blocks * 512 for status in taken) < 8 * MIB
    server.wait_clean(within=180)
