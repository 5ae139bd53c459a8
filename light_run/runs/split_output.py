"""The output of a run as two values of JSON, one a stream, in constant memory."""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from light_run.engine.output.raw import STREAMS, output_size, read_blocks

# Bytes of an alphabet in which three bytes are four characters.
_GROUP = 3


def split_fields(log: Path, *, ended: bool) -> Iterator[bytes]:
    """Yield ``"stdout": ..., "stderr": ...``, of the spool at `log`.

    Each is a string, or ``{"content", "encoding": "base64"}`` where the stream is not UTF-8. A character that has come
    in part is left out, unless the run has `ended`.
    """
    separator = ""
    for stream in STREAMS:
        # A run may go on: both passes are over the same bytes.
        size = output_size(log, stream)
        yield f'{separator}"{stream}": '.encode()
        if _is_text(read_blocks(log, stream, size), final=ended):
            yield from _text(read_blocks(log, stream, size))
        else:
            yield from _base64(read_blocks(log, stream, size))
        separator = ", "


def _is_text(blocks: Iterable[bytes], *, final: bool) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in blocks:
            decoder.decode(block)
        decoder.decode(b"", final)
    except UnicodeDecodeError:
        return False
    return True


def _text(blocks: Iterable[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    yield b'"'
    for block in blocks:
        yield json.dumps(decoder.decode(block), ensure_ascii=False)[1:-1].encode()
    yield b'"'


def _base64(blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield b'{"content": "'
    rest = b""
    for block in blocks:
        data = rest + block
        whole = len(data) - len(data) % _GROUP
        rest = data[whole:]
        yield base64.b64encode(data[:whole])
    yield base64.b64encode(rest) + b'", "encoding": "base64"}'
