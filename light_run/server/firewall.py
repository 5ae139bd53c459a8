"""What ``light-run firewall`` does: keep the packet filter's rules, for as long as it runs."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import closing

from light_run.config.settings import Settings
from light_run.engine.sandbox import firewall
from light_run.engine.sandbox.companion import Companion
from light_run.errors import LightRunError, SettingsError

_log = logging.getLogger(__name__)

# Seconds between two checks: rules that were flushed are missing for at most this time.
_INTERVAL = 5.0


def keep(settings: Settings, *, once: bool) -> bool:
    """Set the rules and check them until SIGTERM or SIGINT, or `once`. Returns False if rules are missing at the end.

    Raises SettingsError if this process may not set rules.
    """
    if not firewall.available():
        raise SettingsError(
            "the packet filter's rules need root, and the program iptables: start this as root"
        )
    stop = threading.Event()
    if not once:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    with closing(Companion(settings.guarded_networks)) as companion:
        said = problem = _look(companion)
        _say(problem)
        while not once and not stop.wait(_INTERVAL):
            problem = _look(companion)
            if problem != said:
                _say(problem)
            said = problem
    return not problem


def _look(companion: Companion) -> str:
    # Returns a description of the problem, or an empty string.
    try:
        missing = companion.look()
    except (LightRunError, OSError) as error:
        return str(error)
    if missing:
        return f"the rules for {', '.join(missing)} cannot be set: iptables failed, or the engine is not on this host"
    return ""


def _say(problem: str) -> None:
    if problem:
        _log.error("%s", problem)
    else:
        _log.info("runs are kept from this host and from metadata addresses")
