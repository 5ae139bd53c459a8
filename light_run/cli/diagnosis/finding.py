"""The result of one check of ``light-run doctor``."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """The result of one check: its level, a one-line summary, and how to fix the problem, if there is one."""

    level: str
    summary: str
    fix: str = ""
