"""The progress of a pull, computed from the engine's messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from light_run.engine.spec import Progress

_DONE = frozenset({"Pull complete", "Already exists"})
_DOWNLOADED = _DONE | {"Verifying Checksum", "Download complete", "Extracting"}


@dataclass(slots=True)
class _Layer:
    done: bool = False
    current: int = 0
    total: int = 0


class PullProgress:
    """The layers of an image that is being pulled."""

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}

    def note(self, message: Mapping[str, Any]) -> None:
        """Process a message: ``{"id", "status", "progressDetail": {"current", "total"}}``; all keys are optional."""
        name, status = message.get("id"), str(message.get("status"))
        # The first message has the tag for its id.
        if not name or status.startswith("Pulling from "):
            return
        layer = self._layers.setdefault(str(name), _Layer())
        layer.done = status in _DONE
        if status in _DOWNLOADED:
            layer.current = layer.total
        elif status == "Downloading":
            # The engine sends no total for layers of unknown size. Extraction is reported in the same format.
            detail = message.get("progressDetail") or {}
            layer.current = int(detail.get("current") or 0)
            layer.total = max(layer.current, int(detail.get("total") or 0))

    @property
    def progress(self) -> Progress:
        """Return the progress of all layers."""
        layers = self._layers.values()
        return Progress(
            layers=len(layers),
            done=sum(layer.done for layer in layers),
            current_bytes=sum(layer.current for layer in layers),
            total_bytes=sum(layer.total for layer in layers),
        )
