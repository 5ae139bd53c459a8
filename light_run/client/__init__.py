"""The Python client of a light-run server: `Client`, and the values it returns."""

from light_run.client.client import Client
from light_run.client.download import local_path
from light_run.client.model import Artifact, Extracted, Info, LogLine, Maintenance, OutputPiece, Run
from light_run.client.requests import Options

__all__ = [
    "Artifact",
    "Client",
    "Extracted",
    "Info",
    "LogLine",
    "Maintenance",
    "Options",
    "OutputPiece",
    "Run",
    "local_path",
]
