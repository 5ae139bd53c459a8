"""What a terminal gets of a run's output."""

from __future__ import annotations

import pytest

from light_run.cli.display.terminal import TerminalFilter


def shown(*pieces: bytes) -> str:
    """What is written for `pieces`."""
    made = TerminalFilter()
    return b"".join([*map(made.feed, pieces), made.feed(b"", final=True)]).decode()


@pytest.mark.parametrize(
    "text", ["plain\ttext\r\n", "\x1b[1;31mred\x1b[0m", "\x1b[38:2::1:2:3mcolour\x1b[m", "é 漢 🎉"]
)
def test_text_and_colours_pass(text: str) -> None:
    data = text.encode()
    assert shown(data) == text
    assert shown(*[bytes([byte]) for byte in data]) == text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x1b]52;c;cm0gLXJmIC8=\x07", r"\x1b]52;c;cm0gLXJmIC8=\x07"),
        (b"\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
        (b"\x1b[6n", r"\x1b[6n"),
        (b"\x1bP$q\x1b\\", r"\x1bP$q\x1b" + "\\"),
        (b"\x9b2J\xc2\x9b2J", "\ufffd2J\\x9b2J"),
        (b"back\b\x00\x7f", r"back\x08\x00\x7f"),
        ("\u202eevil".encode(), r"\u202eevil"),
        (b"ends with \x1b[3", r"ends with \x1b[3"),
        (b"\x1b\x1b[31mred", "\\x1b\x1b[31mred"),
    ],
)
def test_everything_else_is_shown(data: bytes, expected: str) -> None:
    assert shown(data) == expected
    assert shown(*[bytes([byte]) for byte in data]) == expected
