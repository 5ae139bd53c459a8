"""What holds for every test: it leaves no thread and no descriptor behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The machine is shared and noisy: what takes long is no fault. (In CI, hypothesis's own profile is the parent.)
settings.register_profile(
    "untimed", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

SETTLE_SECONDS = 10.0
FAILED: pytest.StashKey[bool] = pytest.StashKey()


def open_descriptors() -> Counter[str]:
    """What this process has open, by what it points at; the listing's own descriptor left out."""
    targets: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        if not target.endswith("/fd"):
            targets[target] += 1
    return targets


def left_behind(threads: set[threading.Thread], descriptors: Counter[str]) -> list[str]:
    """What is there now and was not before."""
    left = [f"thread {thread.name}" for thread in threading.enumerate() if thread not in threads]
    left += [f"descriptor to {target}" for target in open_descriptors() - descriptors]
    return left


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests marked `last` behind all others; name the group of those marked `engines` in reports."""
    for item in items:
        if (mark := item.get_closest_marker("engines")) is not None:
            item.user_properties.append(("group", mark.args[0]))
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def pytest_collection_finish() -> None:
    """Leave what was loaded so far alone: some hundred times it would be searched for garbage, which it is not."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep in mind which tests have failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(autouse=True)
def nothing_left_in_this_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a descriptor in the test process."""
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    yield
    if FAILED in request.node.stash:
        return  # its traceback holds on to whatever it had open
    deadline = time.monotonic() + SETTLE_SECONDS
    while left := left_behind(threads, descriptors):
        gc.collect()
        assert time.monotonic() < deadline, f"left by the test: {left}"
        time.sleep(0.02)
