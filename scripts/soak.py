"""Kill the server at random moments for some minutes, with runs in flight: ``make soak ARGS="--minutes 30"``.

Afterwards every run that was accepted must have ended well, with its artifact, its whole log and its callback.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

# Started as a file, the script has only its own folder on its path.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.killing import kill_at_random
from tests.support.receiver import receiving


def main() -> int:
    """Do it; the exit code."""
    options = argparse.ArgumentParser(description="kill the server at random moments, with runs in flight")
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    asked = options.parse_args()
    until = time.monotonic() + asked.minutes * 60
    print(f"soak: {asked.minutes:g} min, seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="light-run-soak-") as folder, receiving() as receiver:
        owed = kill_at_random(
            Path(folder) / "server", receiver, lambda _owed: time.monotonic() < until, asked.seed
        )
    print(f"soak: {owed.kills} kills, {len(owed.accepted)} runs accepted, none lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
