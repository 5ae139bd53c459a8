"""A run's output as one value a stream."""

from __future__ import annotations

import base64
import json
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from light_run.engine.output.frames import STDERR, STDOUT
from light_run.engine.output.spool import LogWriter
from light_run.runs.split_output import split_fields


def shown(path: Path, *pieces: tuple[int, bytes], ended: bool = True) -> Any:
    """The fields after `pieces` were written."""
    with closing(LogWriter(path, 1 << 24)) as log:
        for stream, data in pieces:
            log.write(stream, memoryview(data))
    return json.loads(b"{" + b"".join(split_fields(path, ended=ended)) + b"}")


def encoded(data: bytes) -> dict[str, str]:
    return {"content": base64.b64encode(data).decode(), "encoding": "base64"}


def test_a_character_may_come_in_parts(tmp_path: Path) -> None:
    whole = 'ä\U0001f600\0\u2028"'.encode()
    pieces = [(STDOUT, bytes([byte])) for byte in whole]
    pieces.insert(1, (STDERR, b"in between"))
    assert shown(tmp_path / "log", *pieces) == {"stdout": whole.decode(), "stderr": "in between"}


def test_what_is_no_text_is_in_base64(tmp_path: Path) -> None:
    data = random.Random(0).randbytes(200_001)
    assert shown(tmp_path / "log", (STDERR, data[:70_000]), (STDERR, data[70_000:])) == {
        "stdout": "",
        "stderr": encoded(data),
    }


@pytest.mark.parametrize("ended", [False, True])
def test_a_character_that_is_not_complete_yet(tmp_path: Path, ended: bool) -> None:
    found = shown(tmp_path / "log", (STDOUT, b"a\xc3"), ended=ended)
    assert found == {"stdout": encoded(b"a\xc3") if ended else "a", "stderr": ""}


def test_a_run_that_has_written_nothing(tmp_path: Path) -> None:
    fields = b"".join(split_fields(tmp_path / "none", ended=False))
    assert json.loads(b"{" + fields + b"}") == {"stdout": "", "stderr": ""}
