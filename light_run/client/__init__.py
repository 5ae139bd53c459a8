"""A light-run server from Python, over HTTP: `Client`, and the values it gives."""

from light_run.client.client import Client
from light_run.client.model import Artifact, Extracted, LogLine, Run

__all__ = ["Artifact", "Client", "Extracted", "LogLine", "Run"]
