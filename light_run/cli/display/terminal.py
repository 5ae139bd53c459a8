"""Output of a run on a terminal: colours pass, everything else that would control the terminal is shown escaped.

A terminal obeys what is written to it: OSC 52 writes the clipboard, other sequences clear the screen or change titles.
"""

from __future__ import annotations

import codecs
import re
import sys
from typing import BinaryIO

# Colours and other renditions (SGR).
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
# What may be the beginning of one.
_BEGUN = re.compile(r"\x1b(?:\[[0-9;:]{0,64})?\Z")
# C0 but tab, newline and carriage return, DEL, C1, and what changes the direction of text.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class TerminalFilter:
    """Makes output harmless for a terminal, in pieces that may be cut anywhere."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Return what to write for `data`; with `final`, nothing is kept back for the next piece."""
        text = self._begun + self._decoder.decode(data, final)
        begun = None if final else _BEGUN.search(text)
        self._begun = "" if begun is None else begun.group()
        text = text[: len(text) - len(self._begun)]
        shown, at = [], 0
        for colour in _COLOUR.finditer(text):
            shown += [_escaped(text[at : colour.start()]), colour.group()]
            at = colour.end()
        shown.append(_escaped(text[at:]))
        return "".join(shown).encode()


class OutputWriter:
    """Writes a run's output to stdout and stderr, without buffering. Filters it on a terminal, unless `raw`."""

    def __init__(self, *, raw: bool = False) -> None:
        self._filters = {
            name: TerminalFilter()
            for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr))
            if not raw and stream.isatty()
        }

    def write(self, stream: str, data: bytes) -> None:
        """Write `data` of `stream`, which is stdout or stderr."""
        self._put(stream, self._filters[stream].feed(data) if stream in self._filters else data)

    def close(self) -> None:
        """Write the bytes that were held back as the possible start of a colour."""
        for name, each in self._filters.items():
            self._put(name, each.feed(b"", final=True))

    def _put(self, stream: str, data: bytes) -> None:
        if data:
            target: BinaryIO = (sys.stderr if stream == "stderr" else sys.stdout).buffer
            target.write(data)
            target.flush()


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
