"""The actions on a run: the table that the routes, the OpenAPI document and the commands are made from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action: ``POST /runs/ID/NAME`` and ``light-run NAME RUN...``.

    `summary`, `description` and `done` (what a 204 means) are for the OpenAPI document, `help` is for the command.
    `errors` are the error codes besides the usual ones. If the action `waits`, its request thread counts as one that
    waits for the end of a run.
    """

    name: str
    summary: str
    description: str
    done: str
    help: str
    errors: tuple[str, ...] = ("not_found_or_done",)
    waits: bool = False


ACTIONS = (
    Action(
        name="cancel",
        summary="Cancel a run",
        description="In any state, even while its image is being pulled.",
        done="It is cancelled.",
        help="Cancel runs, and print the id of each cancelled run.",
    ),
    Action(
        name="stop",
        summary="Stop a run",
        description="Sends a signal (default: SIGTERM), and SIGKILL after `grace` milliseconds (default: 10000). The "
        "signal reaches the program, also if `entrypoint` is a compound command. Answers once the run has ended. It is "
        "`cancelled` with the reason `stopped`, has an exit code if it ended by itself, and its files are extracted.",
        done="It has ended.",
        help="Stop runs with a signal, and print the id of each that was stopped.",
        errors=("not_found_or_done", "overloaded"),
        waits=True,
    ),
    Action(
        name="pause",
        summary="Pause a run",
        description="Freezes its processes. Its `timeout` does not count meanwhile; its `phase` is `paused`.",
        done="It is paused.",
        help="Pause runs, and print the id of each that was paused. A paused run's timeout does not count.",
        errors=("not_found_or_done", "not_started"),
    ),
    Action(
        name="resume",
        summary="Resume a paused run",
        description="A run that is not paused is left as it is.",
        done="It goes on.",
        help="Resume paused runs, and print the id of each that was resumed.",
        errors=("not_found_or_done", "not_started"),
    ),
)
