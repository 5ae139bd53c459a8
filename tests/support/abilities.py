"""What the engine under test can do: ``make engines`` runs the same tests against every engine, and names it.

A test asks for an ability with `refusal`. Where the engine lacks it, the test asserts that light-run refuses, in the
words given here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Set by scripts/engines.py; without it, the engine is taken for Docker as it is installed.
VARIABLE = "ENGINE_UNDER_TEST"

# Abilities, and what light-run says where they are missing.
LIMITS, ISOLATION, STEPS = "limits", "isolated network", "steps"
_NO_LIMITS = {LIMITS: "the container engine cannot limit"}
_NO_ISOLATION = dict.fromkeys(
    (ISOLATION, STEPS), "does not keep containers on network 'light-run' from each other"
)


@dataclass(frozen=True)
class Abilities:
    """The abilities that an engine lacks, with the words of the refusal, and the settings for tests on it."""

    lacks: Mapping[str, str] = field(default_factory=dict)
    runtime: str | None = None
    # A path to extract that is a symbolic link leads on, inside the container.
    follows_links: bool = False

    def refusal(self, ability: str) -> str | None:
        """The words in which `ability` is refused; None if the engine has it."""
        return self.lacks.get(ability)

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables of a server on this engine."""
        found = {"LIGHT_RUN_ALLOW_UNLIMITED": "true"} if LIMITS in self.lacks else {}
        return {**found, **({"LIGHT_RUN_RUNTIME": self.runtime} if self.runtime else {})}

    @property
    def config(self) -> dict[str, Any]:
        """The same for a RunnerConfig."""
        return {"allow_unlimited": LIMITS in self.lacks, "runtime": self.runtime}


ENGINES: Mapping[str, Abilities] = {
    "docker": Abilities(),
    "docker-userns": Abilities(),
    "docker-tls": Abilities(),
    "docker-crun": Abilities(runtime="crun"),
    "docker-rootless": Abilities(_NO_LIMITS),
    "podman": Abilities(_NO_ISOLATION, follows_links=True),
    "podman-rootless": Abilities({**_NO_ISOLATION, **_NO_LIMITS}, follows_links=True),
}


def under_test() -> Abilities:
    """The abilities of the engine under test."""
    return ENGINES[os.environ.get(VARIABLE, "docker")]
