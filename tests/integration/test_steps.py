"""`run`: steps baked into a cached image."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX, ENTRYPOINT, NONROOT, engine_api, inspect_image, step_images
from tests.support.server import Server, run_request

CACHE = "light-run-cache"


def cached(server: Server) -> set[str]:
    """The ids of the images of steps that the server has made; they go with it."""
    return set(step_images(server.server_id))


def unique() -> str:
    """A word no other test's step has."""
    return uuid.uuid4().hex


def test_a_step_is_baked_in(server: Server) -> None:
    word = unique()
    state = server.run(run=[f"echo {word} > /baked"], entrypoint="cat /baked")
    assert (state["status"], state["logs"]) == ("succeeded", [word]), state


def test_the_image_is_named_by_what_it_is_made_of(server: Server) -> None:
    before = cached(server)
    server.run(run=[f"echo {unique()}"])
    (made,) = cached(server) - before
    with engine_api() as api:
        (tags,) = [image["RepoTags"] for image in api.images() if image["Id"] == made]
    (tag,) = tags
    assert len(tag.removeprefix(f"{CACHE}:")) == 64
    assert int(tag.removeprefix(f"{CACHE}:"), 16)


def test_the_same_steps_are_reused(server: Server) -> None:
    steps = [f"echo {unique()} > /a", "date +%s%N > /when"]
    first = server.run(run=steps, entrypoint="cat /when")
    made = cached(server)
    second = server.run(run=steps, entrypoint="cat /when")
    assert first["logs"] == second["logs"]
    assert cached(server) == made


def test_other_steps_are_another_image(server: Server) -> None:
    word = unique()
    one = server.run(run=[f"echo 1{word} > /a"], entrypoint="cat /a")
    two = server.run(run=[f"echo 2{word} > /a"], entrypoint="cat /a")
    assert (one["logs"], two["logs"]) == ([f"1{word}"], [f"2{word}"])


def test_how_steps_are_cut_makes_a_difference(server: Server) -> None:
    word = unique()
    server.run(run=[f"echo a{word}", "echo b"])
    made = cached(server)
    server.run(run=[f"echo a{word}\necho b"])
    assert cached(server) != made


def test_a_shared_prefix_is_reused(server: Server) -> None:
    first_step = f"echo {unique()}; date +%s%N > /when"
    one = server.run(run=[first_step, "echo 1 > /n"], entrypoint="cat /when /n")
    two = server.run(run=[first_step, "echo 2 > /n"], entrypoint="cat /when /n")
    longer = server.run(run=[first_step, "echo 1 > /n", "echo 3 > /m"], entrypoint="cat /when /n /m")
    assert one["logs"][0] == two["logs"][0] == longer["logs"][0]
    assert [one["logs"][1:], two["logs"][1:], longer["logs"][1:]] == [["1"], ["2"], ["1", "3"]]


def test_the_same_request_from_many_clients_is_built_once(server: Server) -> None:
    steps = [f"echo {unique()}; sleep 1; date +%s%N > /when"]
    before = cached(server)
    with ThreadPoolExecutor(6) as pool:
        states = list(pool.map(lambda _: server.run(run=steps, entrypoint="cat /when"), range(6)))
    assert [state["status"] for state in states] == ["succeeded"] * 6
    assert len({state["logs"][0] for state in states}) == 1
    assert len(cached(server) - before) == 1


def test_one_of_many_that_build_is_cancelled(server: Server) -> None:
    steps = [f"echo {unique()}; sleep 2; echo x > /x"]
    first = server.start(run=steps, entrypoint="cat /x")
    second = server.start(run=steps, entrypoint="cat /x")
    assert server.cancel(first).status_code == 204
    assert server.wait_done(first, within=20)["status"] == "cancelled"
    assert server.wait_done(second)["logs"] == ["x"]


@pytest.mark.parametrize("code", [1, 42])
def test_a_step_that_fails_is_named(server: Server, code: int) -> None:
    bad = f"echo some {code} last words; exit {code}"
    before = cached(server)
    state = server.run(run=[f"echo {unique()}", bad, "echo never"], entrypoint="echo never")
    assert (state["status"], state["reason"]) == ("failed", "build_failed")
    assert bad in state["error"] or "2" in state["error"]
    assert str(code) in state["error"]
    assert f"some {code} last words" in state["error"]
    assert "exitCode" not in state
    assert "never" not in state.get("logs", [])
    assert len(cached(server) - before) <= 1


def test_a_step_that_failed_is_tried_again(server: Server) -> None:
    steps = [f"echo {unique()}; exit 1"]
    assert server.run(run=steps)["reason"] == "build_failed"
    assert server.run(run=steps)["reason"] == "build_failed"


def test_a_step_runs_by_sh_with_its_own_words(server: Server) -> None:
    step = 'for i in 1 2; do echo "$i" >> /n; done && echo \'a"b\' >> /n; cd /tmp\necho $HOME >> /n'
    state = server.run(run=[step, f"true {unique()}"], entrypoint="cat /n; pwd")
    assert state["logs"] == ["1", "2", 'a"b', "/root", "/app"]


def test_files_of_the_run_are_not_in_the_image(server: Server) -> None:
    step = f"ls /app > /seen 2>/dev/null; echo {unique()}"
    state = server.run(run=[step], files={"secret.txt": "x"}, entrypoint="cat /seen; ls")
    assert state["logs"] == ["secret.txt"]


def test_env_of_the_run_is_not_in_the_image(server: Server) -> None:
    step = f'echo "[$SECRET]" > /seen; echo {unique()}'
    state = server.run(run=[step], env={"SECRET": "canary"}, entrypoint='cat /seen; echo "$SECRET"')
    assert state["logs"] == ["[]", "canary"]


def test_entrypoint_and_environment_of_the_base_are_kept(server: Server) -> None:
    steps = [f"echo {unique()} > /x"]
    own = server.run(image=ENTRYPOINT, run=steps, entrypoint=..., input="given")
    assert (own["status"], own["logs"]) == ("succeeded", ['"given"']), own
    state = server.run(image=ENTRYPOINT, run=steps, entrypoint='echo "$GREETING"')
    assert state["logs"] == ["hi"]


def test_command_of_the_base_is_kept(server: Server) -> None:
    state = server.run(image=BUSYBOX, run=[f"echo {unique()} > /x"], entrypoint=..., input="true")
    assert state["status"] == "succeeded", state


def test_user_of_the_base_is_kept(server: Server) -> None:
    state = server.run(
        image=NONROOT,
        run=[f"id -u > /tmp/built-by; echo {unique()}"],
        entrypoint="cat /tmp/built-by; id -u",
    )
    assert state["logs"] == ["1000", "1000"], state


def test_the_configuration_of_the_base_is_kept_whole(server: Server) -> None:
    before = cached(server)
    server.run(image=ENTRYPOINT, run=[f"echo {unique()}"], entrypoint="true")
    (made,) = cached(server) - before
    base, built = (inspect_image(name)["Config"] for name in (ENTRYPOINT, made))
    for name in ("Entrypoint", "Cmd", "User", "Env", "Volumes", "ExposedPorts"):
        assert (base.get(name) or None) == (built.get(name) or None), name
    assert (base["WorkingDir"] or "/") == (built["WorkingDir"] or "/")


def test_steps_are_as_hardened_as_a_run(server: Server) -> None:
    step = (
        f"grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status > /how; ls /sys/class/net >> /how; echo {unique()}"
    )
    state = server.run(run=[step], network=..., entrypoint="cat /how; grep CapBnd /proc/self/status")
    assert state["logs"][0] == state["logs"][-1]
    assert "NoNewPrivs:\t1" in state["logs"]
    # The isolated network, so that packages can be fetched.
    assert "eth0" in state["logs"]


def test_the_container_of_a_step_is_gone_afterwards(server: Server) -> None:
    server.run(run=[f"echo {unique()}"])
    server.run(run=[f"echo {unique()}; exit 1"])
    server.wait_clean()


def test_the_clock_of_the_run_begins_after_the_steps(server: Server) -> None:
    state = server.run(run=[f"echo {unique()}; sleep 6"], entrypoint="echo done", timeout=5000)
    assert (state["status"], state["logs"]) == ("succeeded", ["done"]), state
    assert state["timings"]["imageMs"] >= 6000


def test_detached_with_steps(server: Server) -> None:
    state = server.wait_done(server.start(run=[f"echo {unique()} > /x"], entrypoint="wc -l < /x"))
    assert state["logs"] == ["1"]


def test_steps_have_a_time_of_their_own(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_STEP_TIMEOUT": "3", "LIGHT_RUN_MAX_CONCURRENCY": "1"})
    step = f"echo {unique()}; sleep 300"
    for fields, shown in (({"stepTimeout": 1500}, "1.5 s"), ({}, "3 s")):
        state = server.run(run=[step], timeout=3_000_000, **fields)
        assert (state["status"], state["reason"]) == ("failed", "build_failed"), state
        assert step in state["error"]
        assert shown in state["error"]
    assert server.run(entrypoint="echo next")["logs"] == ["next"]
    for wrong in (0, 3001, 1.5, "2s", None):
        response = server.request("POST", "/run", json=run_request(run=[step], stepTimeout=wrong))
        assert response.status_code == 400
        (fault,) = response.json()["details"]
        assert fault["path"] == ["stepTimeout"]
