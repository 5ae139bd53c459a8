"""The packet filter's rules for a server that may not set them, set by a process that may."""

from __future__ import annotations

from collections.abc import Sequence

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.sandbox import firewall_report
from light_run.engine.sandbox.networks import Networks, guarded, protect_network

# A hung engine must not keep the rules from being looked for.
_TIMEOUT = 10


class Companion:
    """Sets the rules of an engine's isolated network, and of those existing ones that `patterns` match."""

    def __init__(self, patterns: Sequence[str] = (), network: str = RunnerConfig().network) -> None:
        self._engine = Engine(timeout=_TIMEOUT)
        self._patterns = (network, *patterns)
        self._networks = Networks(self._engine, network)

    def look(self) -> tuple[str, ...]:
        """Set what is missing, report what stands, and return the names of networks whose rules cannot be set.

        The isolated network is made where it is not there. Raises EngineError, OSError.
        """
        self._networks.make()
        missing, standing = list[str](), list[str]()
        for network in self._engine.networks():
            if network["Driver"] == "bridge" and guarded(network["Name"], self._patterns):
                if protect_network(self._engine, network):
                    standing.append(network["Id"])
                else:
                    missing.append(network["Name"])
        firewall_report.write(standing)
        return tuple(missing)

    def close(self) -> None:
        """Close the connections to the engine; the rules stay."""
        self._engine.close()
