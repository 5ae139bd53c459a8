"""The artifacts of a run that left very many: packed, so that they may stay in memory."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from typing import overload

from light_run.engine.spec import RunArtifact

# So many are kept as they are: most runs leave few, and are listed often.
FEW = 16


class PackedArtifacts(Sequence[RunArtifact]):
    """Artifacts in their order, a few bytes each; to look at one is to unpack all."""

    __slots__ = ("_length", "_packed")

    def __init__(self, artifacts: Sequence[RunArtifact]) -> None:
        self._length = len(artifacts)
        rows = [(each.path, each.bytes, each.type) for each in artifacts]
        self._packed = zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), level=1)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[RunArtifact]:
        return (RunArtifact(*row) for row in json.loads(zlib.decompress(self._packed)))

    @overload
    def __getitem__(self, index: int) -> RunArtifact: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RunArtifact]: ...

    def __getitem__(self, index: int | slice) -> RunArtifact | Sequence[RunArtifact]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PackedArtifacts) and self._packed == other._packed

    def __hash__(self) -> int:
        return hash(self._packed)


def packed(artifacts: Sequence[RunArtifact]) -> Sequence[RunArtifact]:
    """`artifacts` fit to be kept: as a tuple where they are few."""
    return tuple(artifacts) if len(artifacts) <= FEW else PackedArtifacts(artifacts)
