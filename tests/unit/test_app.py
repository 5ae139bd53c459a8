"""The wiring: what settings become, and that an application ends as it began."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import light_run
from light_run import app as module
from light_run.config.settings import Settings
from light_run.config.variables import MIB
from light_run.engine import Limits
from light_run.errors import SettingsError
from light_run.server.worker import Worker


def settings(tmp_path: Path, **fields: object) -> Settings:
    """Settings of an empty environment, with all folders of the test's own."""
    return Settings.from_env({}, state_dir=tmp_path / "state", **fields)


def test_defaults_become_the_engine_s(tmp_path: Path) -> None:
    made = settings(tmp_path)
    made.state_dir.mkdir()
    config = module.runner_config(made, "the-id")
    assert config.limits == Limits()
    assert config.state_dir == made.state_dir
    assert "NET_RAW" in config.cap_drop


def test_what_an_operator_tightens(tmp_path: Path) -> None:
    made = settings(
        tmp_path, memory="64m", cap_drop="all", read_only=True, user="65534", runtime="runsc", parked="a=1"
    )
    made.state_dir.mkdir()
    config = module.runner_config(made, "the-id")
    assert (config.limits.memory, config.read_only, config.user) == (64 * MIB, True, "65534")
    assert "ALL" in config.cap_drop
    assert config.parked_pins == {"a": 1}


@pytest.mark.parametrize(
    ("runtime", "runtimes", "allowed"),
    [
        (None, None, ("runc", "runsc")),
        ("runsc", None, ("runsc",)),
        (None, "runsc", ("runsc",)),
        ("runsc", "runc", ("runsc", "runc")),
    ],
)
def test_runtimes(
    tmp_path: Path, runtime: str | None, runtimes: str | None, allowed: tuple[str, ...]
) -> None:
    assert module.policy(settings(tmp_path, runtime=runtime, runtimes=runtimes)).runtimes == allowed


def test_the_most_is_the_default_where_nothing_is_said(tmp_path: Path) -> None:
    assert module.policy(settings(tmp_path, memory="64m")).most == Limits(memory=64 * MIB)
    assert module.policy(settings(tmp_path, max_cpus=4)).most.cpus == 4


def test_an_application_without_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    app = light_run.create_app(token="t", body_limit=100, state_dir=tmp_path / "state")
    try:
        client = app.test_client()
        assert client.get("/health").status_code == 503
        assert client.get("/runs").status_code == 401
        headers = {"Authorization": "Bearer t"}
        assert client.get("/runs", headers=headers).data == b"[]"
        assert client.post("/run", data=b" " * 101, headers=headers).status_code == 413
        metrics = client.get("/metrics", headers=headers).text.splitlines()
        assert "light_run_engine_up 0.0" in metrics
        assert f'light_run_build_info{{version="{light_run.__version__}"}} 1.0' in metrics
        assert 'light_run_engine_errors_total{kind="unavailable"} 0.0' not in metrics
    finally:
        module.close(app)
        module.close(app)


def test_a_single_machine_imports_nothing_of_a_cluster(tmp_path: Path) -> None:
    program = """
import sys, light_run
from light_run import app
made = light_run.create_app(state_dir=sys.argv[1])
app.close(made)
those = ("procrastinate", "psycopg", "light_run.runs.storage.", "light_run.store")
those += ("fsspec", "s3fs", "botocore", "aiohttp")
print(*sorted(name for name in sys.modules if name.startswith(those)))
"""
    environ = {**os.environ, "DOCKER_HOST": "tcp://127.0.0.1:1"}
    command = [sys.executable, "-c", program, str(tmp_path / "state")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    imported = done.stdout.split()
    assert "light_run.runs.storage.sqlite" in imported
    assert [
        name for name in imported if not name.startswith("light_run.runs.storage.") or "postgres" in name
    ] == []


def test_a_bad_setting_is_raised(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LIGHT_RUN_BODY_LIMIT"):
        light_run.create_app(body_limit=0, state_dir=tmp_path)


@pytest.mark.parametrize(
    ("pool", "threads", "most", "followers"),
    [(164, 64, 100, 100), (64, 64, 100, 16), (8, 64, 100, 2), (1, 64, 100, 0), (4, 4, 0, 0), (24, 16, 2, 2)],
)
def test_followers_of_a_pool_of_threads(pool: int, threads: int, most: int, followers: int) -> None:
    assert Worker(SimpleNamespace(cfg=SimpleNamespace(threads=pool))).followers(threads, most) == followers
