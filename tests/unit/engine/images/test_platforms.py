"""Platforms: the same one is written in several ways."""

from __future__ import annotations

import pytest

from light_run.engine.images import platforms
from light_run.errors import StartFailed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("linux/amd64", "linux/x86_64"),
        ("linux/arm64", "linux/aarch64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/armv7l"),
        ("linux/arm/v7", "linux/armhf"),
        ("LINUX/AMD64", "linux/amd64"),
    ],
)
def test_two_ways_to_write_one(one: str, other: str) -> None:
    assert platforms.normalised(one) == platforms.normalised(other)


@pytest.mark.parametrize(
    "other", ["linux/arm64", "linux/arm/v6", "linux/amd64/v2", "linux/386", "linux/s390x"]
)
def test_others_are_refused_in_words(other: str) -> None:
    own = {"OSType": "linux", "Architecture": "x86_64"}
    platforms.require("linux/amd64", own)
    with pytest.raises(StartFailed, match="this engine runs containers for linux/amd64 only"):
        platforms.require(other, own)


def test_of_an_image() -> None:
    assert platforms.of_image({"Os": "linux", "Architecture": "arm64", "Variant": "v8"}) == "linux/arm64"
    assert platforms.of_image({"Os": "linux", "Architecture": "arm", "Variant": "v6"}) == "linux/arm/v6"
    assert platforms.of_image({}) == ""
