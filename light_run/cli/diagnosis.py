"""What a look at a server or a machine comes to."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """One thing that was looked at: how it is, in a word and in a sentence, and how to mend it."""

    level: str
    what: str
    mend: str = ""
