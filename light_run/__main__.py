"""The command ``light-run``, which is ``python -m light_run``."""

from __future__ import annotations

import sys


def main() -> None:
    """Be the command, which takes a moment to load: a Ctrl-C in that ends it without a traceback, too."""
    try:
        from light_run.cli import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    command(prog_name="light-run")


if __name__ == "__main__":
    main()
