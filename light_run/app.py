"""Where the parts are wired together, and nowhere else."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask

from light_run.api import OriginPolicy, Policy, create_api
from light_run.artifacts.store import ArtifactStore
from light_run.config.settings import Settings
from light_run.config.tokens import TokenFile
from light_run.engine import DROPPED_CAPABILITIES, Limits, Runner, RunnerConfig
from light_run.engine.daemon import errors
from light_run.errors import JournalError, SettingsError
from light_run.runs.callbacks.schedule import Schedule
from light_run.runs.execution.executor import Executor
from light_run.runs.metrics import RunMetrics
from light_run.runs.service import RunService
from light_run.runs.storage.retention import Retention
from light_run.runs.storage.sqlite.journal import SQLiteJournal
from light_run.runs.tracing import NoTracer, Tracer
from light_run.server import json_log, state_dir, tracing, worker
from light_run.server.metrics import Metrics
from light_run.version import __version__

_log = logging.getLogger(__name__)

_EXTENSION = "light_run"
_PARTS = "light_run.parts"
# Files open at once: of a run (log, connections to the engine and to the client), and of the rest.
_OF_A_RUN, _OF_A_THREAD, _OF_THE_REST = 6, 3, 128


def create_app(settings: Settings | None = None, **overrides: Any) -> Flask:
    """The Flask application, at work: ``gunicorn 'light_run:create_app()'``, or a test's.

    `settings` default to the environment's; `overrides` are single ones by the name of their field, such
    as ``create_app(token="...", body_limit=1024)``. ``app.extensions["light_run"]`` is the `RunService`;
    `close` ends it. Raises `SettingsError`, `JournalError`.
    """
    host = None
    try:
        host = worker.current()
        settings = Settings.from_env(**overrides) if settings is None else settings
        return _create(settings, host)
    except (SettingsError, JournalError) as error:
        if host is None:
            raise
        # The one exception that gunicorn answers with a line of its words and the end of the server.
        from gunicorn.errors import AppImportError  # type: ignore[import-untyped,unused-ignore]

        raise AppImportError(f"light-run: {error}") from None


def close(app: Flask, grace: float = 0.0) -> None:
    """End `app`: runs at work get `grace` seconds, then nothing of them is left. May be called again."""
    parts: _Parts = app.extensions[_PARTS]
    parts.close(grace)


class _Parts:
    # What is to be ended, once, in the order opposite to that it was begun in.
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: list[Callable[[float], object]] = []

    def add(self, end: Callable[[float], object]) -> None:
        self._ends.append(end)

    def close(self, grace: float) -> None:
        with self._lock:
            while self._ends:
                self._ends.pop()(grace)


def _create(settings: Settings, host: worker.Worker | None) -> Flask:
    parts = _Parts()
    try:
        return _begin(settings, host, parts)
    except BaseException:
        parts.close(0.0)
        raise


def _begin(settings: Settings, host: worker.Worker | None, parts: _Parts) -> Flask:
    json_log.configure_unless_configured()
    if host is not None:
        host.check()
        host.allow_descriptors(
            _OF_A_RUN * settings.max_concurrency + _OF_A_THREAD * host.threads + _OF_THE_REST
        )
    state_dir.prepare(settings.state_dir, settings.artifacts_dir)
    state_dir.lock(settings.state_dir, None if host is None else host.wait_for_sibling)
    parts.add(lambda _: state_dir.unlock(settings.state_dir))
    named = None if settings.tokens_file is None else TokenFile(settings.tokens_file)
    metrics = Metrics(__version__)
    tracer = tracing.tracer(os.environ, debug=settings.otel_debug, version=__version__)
    parts.add(lambda _: tracer.close())
    identity = state_dir.identify(settings.state_dir)
    if identity.copied:
        _log.warning(
            "%s is a copy of another server's state directory: this server has a new id, and leaves the runs that had "
            "not ended to the other one",
            settings.state_dir,
        )
    service = _service(settings, metrics, identity, tracer)
    threads, followers = _threads(settings, host)
    parts.add(service.close)
    metrics.watch(service.levels, errors.counts, _limits(settings))
    app = create_api(
        service,
        token=settings.token,
        body_limit=settings.body_limit,
        upload_limit=settings.upload_limit,
        policy=policy(settings),
        threads=threads,
        with_console=settings.console,
        followers=followers,
        accel=settings.accel,
        named=named,
        trusted=settings.trusted_proxies,
        browsers=OriginPolicy(settings.origins, settings.hosts),
        body_timeout=settings.body_timeout,
        send_timeout=settings.send_timeout,
        page=metrics.page,
        tracer=None if isinstance(tracer, NoTracer) else tracer,
    )
    # Beside the first requests: the engine may take its time, or not be there yet.
    starter = threading.Thread(target=service.start, name="light-run-start", daemon=True)
    starter.start()
    parts.add(lambda _: starter.join())
    app.extensions[_EXTENSION], app.extensions[_PARTS] = service, parts
    if host is not None:
        host.on_stop(parts.close, settings.grace)
        if named is not None:
            host.on_reload(named.mark_stale)
    atexit.register(parts.close, 0.0)
    return app


def _threads(settings: Settings, host: worker.Worker | None) -> tuple[int, int]:
    # For requests that end soon, and for those that follow a run.
    if host is None:
        return settings.threads, settings.max_followers
    followers = host.followers(settings.threads, settings.max_followers)
    return host.threads - followers, followers


def _service(
    settings: Settings, metrics: RunMetrics, identity: state_dir.Identity, tracer: Tracer
) -> RunService:
    return RunService(
        Runner(runner_config(settings, identity.server_id)),
        ArtifactStore(settings.artifacts_dir),
        SQLiteJournal(settings.state_dir / "journal.sqlite"),
        Executor(concurrency=settings.max_concurrency, max_queue=settings.max_queue),
        logs_dir=settings.state_dir / "logs",
        max_artifacts_bytes=settings.max_artifacts_bytes,
        max_artifacts_files=settings.max_artifacts_files,
        sweep_interval=settings.sweep_interval,
        retention=Retention(age=settings.retention, count=settings.max_runs),
        callback_schedule=Schedule(first=settings.callback_pause, lifetime=settings.callback_lifetime),
        callback_private=settings.callback_private,
        metrics=metrics,
        copied=identity.copied,
        max_pause=settings.max_pause,
        id_prefix=settings.id_prefix or "",
        tracer=tracer,
    )


def _limits(settings: Settings) -> dict[str, float]:
    # By the names of the metrics that are read beside them.
    return {
        "active_runs_limit": settings.max_concurrency,
        "queued_runs_limit": settings.max_queue,
        "parked_containers_limit": settings.parked_max,
        "artifact_limit_bytes": settings.max_artifacts_bytes,
    }


def _default_limits(settings: Settings) -> Limits:
    return Limits(
        memory=settings.memory,
        cpus=settings.cpus,
        pids=settings.pids,
        shm=settings.shm,
        nofile=settings.nofile,
        fsize=settings.fsize,
    )


def runner_config(settings: Settings, server_id: str) -> RunnerConfig:
    """Return the engine package's part of `settings`."""
    return RunnerConfig(
        server_id=server_id,
        state_dir=settings.state_dir,
        workspace=settings.workspace,
        limits=_default_limits(settings),
        cap_drop=(*DROPPED_CAPABILITIES, *settings.cap_drop),
        read_only=settings.read_only,
        user=settings.user,
        runtime=settings.runtime,
        prefer_runtime=settings.prefer_runtime,
        allow_unlimited=settings.allow_unlimited,
        registries=settings.registries,
        default_network=settings.network,
        guarded=settings.guarded_networks,
        step_timeout=settings.step_timeout,
        step_images_age=settings.step_images_age,
        step_images_bytes=settings.step_images_bytes,
        pull_timeout=settings.pull_timeout,
        log_cap=settings.log_limit,
        extract_cap=settings.extract_limit,
        extract_entries=settings.extract_entries,
        workspace_cap=settings.max_workspace_bytes,
        disk_reserve=settings.min_free_bytes,
        upload_cap=settings.upload_limit,
        parked_max=settings.parked_max,
        parked_idle=settings.parked_idle,
        parked_pins=dict(settings.parked),
    )


def policy(settings: Settings) -> Policy:
    """What requests may ask for under `settings`."""
    alone = ("runc", "runsc") if settings.runtime is None else ()
    runtimes = alone if settings.runtimes is None else settings.runtimes
    return Policy(
        limits=_default_limits(settings),
        most=Limits(
            memory=settings.max_memory or settings.memory,
            cpus=settings.max_cpus or settings.cpus,
            pids=settings.max_pids or settings.pids,
            shm=settings.max_shm
            or (settings.shm and max(settings.max_memory or settings.memory, settings.shm)),
            nofile=settings.nofile,
            fsize=settings.fsize,
            gpus=settings.gpus,
        ),
        timeout=settings.timeout,
        max_timeout=settings.max_timeout,
        step_timeout=round(settings.step_timeout * 1000),
        runtimes=runtimes if settings.runtime is None else (settings.runtime, *runtimes),
        images=settings.images,
        networks=settings.networks,
        users=settings.users or ((settings.user,) if settings.user else None),
        pull=settings.pull,
    )
