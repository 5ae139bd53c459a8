"""How far a pull is, from the messages of an engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from light_run.engine.images.progress import PullProgress
from light_run.engine.spec import Progress


def message(status: str, layer: str = "", current: int = 0, total: int = 0) -> dict[str, Any]:
    """A message in the engine's form."""
    detail = {"current": current, "total": total} if total else {}
    return {"status": status, "progressDetail": detail, **({"id": layer} if layer else {})}


def after(*messages: dict[str, Any]) -> tuple[int, int, int, int]:
    """Layers, those that are done, bytes, bytes in all."""
    layers = PullProgress()
    for each in messages:
        layers.note(each)
    now = layers.progress
    assert now.layers is not None
    return now.layers, now.done, now.current_bytes, now.total_bytes


# As Docker Engine 20.10 sends them for an image of three layers, one of which it has.
PULL = [
    (message("Pulling from team/image", "1.0"), (0, 0, 0, 0)),
    (message("Already exists", "a"), (1, 1, 0, 0)),
    (message("Pulling fs layer", "b"), (2, 1, 0, 0)),
    (message("Pulling fs layer", "c"), (3, 1, 0, 0)),
    (message("Waiting", "c"), (3, 1, 0, 0)),
    (message("Downloading", "b", 100, 1000), (3, 1, 100, 1000)),
    (message("Downloading", "c", 50, 50), (3, 1, 150, 1050)),
    (message("Verifying Checksum", "c"), (3, 1, 150, 1050)),
    (message("Download complete", "c"), (3, 1, 150, 1050)),
    (message("Downloading", "b", 900, 1000), (3, 1, 950, 1050)),
    (message("Download complete", "b"), (3, 1, 1050, 1050)),
    (message("Extracting", "b", 10, 1000), (3, 1, 1050, 1050)),
    (message("Pull complete", "b"), (3, 2, 1050, 1050)),
    (message("Pull complete", "c"), (3, 3, 1050, 1050)),
    (message("Digest: sha256:abc"), (3, 3, 1050, 1050)),
    (message("Status: Downloaded newer image for team/image:1.0"), (3, 3, 1050, 1050)),
]


def test_a_pull_from_its_first_message_to_its_last() -> None:
    layers = PullProgress()
    for each, (count, done, current, total) in PULL:
        layers.note(each)
        expected = Progress(layers=count, done=done, current_bytes=current, total_bytes=total)
        assert layers.progress == expected, each


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        # Of a size nobody has said.
        ([{"status": "Downloading", "id": "a", "progressDetail": {"current": 7}}], (1, 0, 7, 7)),
        ([{"status": "Downloading", "id": "a", "progressDetail": None}], (1, 0, 0, 0)),
        ([{"status": "Downloading", "id": "a"}], (1, 0, 0, 0)),
        # Newer engines count the seconds of unpacking, in the same place.
        ([{"status": "Extracting", "id": "a", "progressDetail": {"current": 3, "units": "s"}}], (1, 0, 0, 0)),
        # Begun anew.
        ([message("Downloading", "a", 9, 10), message("Downloading", "a", 1, 10)], (1, 0, 1, 10)),
        ([message("Retrying in 5 seconds", "a")], (1, 0, 0, 0)),
        ([{}], (0, 0, 0, 0)),
    ],
)
def test_odd_messages(messages: list[dict[str, Any]], found: tuple[int, int, int, int]) -> None:
    assert after(*messages) == found


@given(st.lists(st.sampled_from([each for each, _ in PULL])))
def test_in_whatever_order_it_is_never_more_than_all(messages: list[dict[str, Any]]) -> None:
    layers, done, current, total = after(*messages)
    assert done <= layers
    assert current <= total
