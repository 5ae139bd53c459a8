"""``light-run`` with a wall clock that can be put back: ``python -m tests.support.put_back FILE ARGUMENT...``.

The clock is off by the seconds that FILE says at that moment. The steady clock is as it is: nobody can put
that back on a real machine either.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from pathlib import Path
from typing import Any

_real_time = time.time


class _DateTime(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return cls.fromtimestamp(time.time(), tz)


def main(file: str, arguments: list[str]) -> None:
    """Run ``light-run ARGUMENTS`` by that clock."""
    offset = Path(file)
    time.time = lambda: _real_time() + float(offset.read_text())
    dt.datetime = _DateTime  # type: ignore[misc]
    # Only now: modules keep what they import by name.
    from light_run.cli import main

    main(arguments, prog_name="light-run")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
