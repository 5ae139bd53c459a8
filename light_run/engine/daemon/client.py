"""The only place that talks to docker-py: engine verbs in, light-run's own errors out.

Every call a run needs is here once, in one class of calls for each noun, as docker-py's own client has it.
"""

from __future__ import annotations

from light_run.engine.daemon.images import ImageCalls
from light_run.engine.daemon.networks import NetworkCalls
from light_run.engine.daemon.streams import StreamCalls


class Engine(StreamCalls, ImageCalls, NetworkCalls):
    """A container engine, local or remote. Every method raises `EngineUnavailable` or `EngineRefused`.

    Raises SettingsError where the environment names one that cannot be used. `address` is its URL.
    """
