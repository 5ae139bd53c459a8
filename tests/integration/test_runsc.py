"""gVisor: the same contract in another runtime."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine import NONROOT, PYTHON, engine_api
from tests.support.server import RunState, Server


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    """Fail where the engine has no runsc: ``scripts/ensure-engine --with-runsc`` registers it."""
    with engine_api() as api:
        assert "runsc" in api.info()["Runtimes"], "the engine has no runtime runsc"


def run(server: Server, **fields: Any) -> RunState:
    """The final state of a run in gVisor."""
    return server.run(runtime="runsc", timeout=60_000, **fields)


def test_it_is_gvisor(server: Server) -> None:
    # A kernel of gVisor's own introduces itself in its boot messages.
    state = run(server, entrypoint="dmesg | head -n 1")
    assert "gVisor" in "".join(state["logs"]), state


def test_files_in_and_an_artifact_out(server: Server) -> None:
    state = run(
        server,
        files={"in": "in\n", "d/f": "f\n"},
        entrypoint="cat in d/f; mkdir out; echo x > out/made",
        extract=["out"],
    )
    assert (state["status"], state["logs"]) == ("succeeded", ["in", "f"]), state
    assert server.artifact(state["id"], "made").content == b"x\n"


def test_input_exit_code_and_env(server: Server) -> None:
    state = run(server, input="given", env={"A": "a b"}, entrypoint='cat; echo "[$A]"; exit 5')
    assert (state["exitCode"], state["logs"]) == (5, ['"given"[a b]']), state


def test_python(server: Server) -> None:
    program = "open('out', 'w').write('x' * 100000)\nprint('done')\n"
    state = run(server, image=PYTHON, files={"m.py": program}, entrypoint="python3 m.py", extract=["out"])
    assert state["logs"] == ["done"], state
    assert server.artifact(state["id"], "out").content == b"x" * 100_000


def test_as_many_processes_as_there_may_be(server: Server) -> None:
    # gVisor has tasks of its own for each of them; one too few, and it crashes.
    state = run(
        server, entrypoint="for i in $(seq 80); do sleep 3 & done; wait; echo all", limits={"pids": 100}
    )
    assert (state["exitCode"], state["logs"]) == (0, ["all"]), state


def test_a_fork_bomb(server: Server) -> None:
    state = run(server, entrypoint="f() { f | f & }; f; sleep 60", limits={"pids": 10})
    assert state["status"] == "failed", state


def test_an_image_whose_user_is_not_root(server: Server) -> None:
    state = run(server, image=NONROOT, entrypoint="id -u; echo x > out", extract=["out"])
    assert (state["logs"], state["extracted"][0]["status"]) == (["1000"], "ok"), state


def test_a_timeout(server: Server) -> None:
    state = server.run(runtime="runsc", entrypoint="echo up; sleep 60", timeout=5000)
    assert (state["reason"], state["logs"]) == ("timeout", ["up"]), state


def test_a_cancel(server: Server) -> None:
    run_id = server.start(runtime="runsc", entrypoint="echo up; sleep 60")
    server.wait_output(run_id, "up")
    assert server.cancel(run_id).status_code == 204
    assert server.wait_done(run_id, within=20)["status"] == "cancelled"
