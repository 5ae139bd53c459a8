"""Every action of the table has a route, a method of the client and a command."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from light_run.actions import ACTIONS, Action
from light_run.api.requests.actions import BODIES
from light_run.api.routes.actions import ActionRoutes
from light_run.cli import main
from light_run.client import Client
from light_run.runs.fairness import Places
from light_run.runs.service import RunService

EVERY = pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)


def test_names_are_unique_and_bodies_belong_to_actions() -> None:
    names = [action.name for action in ACTIONS]
    assert len(set(names)) == len(names)
    assert set(BODIES) <= set(names)


@EVERY
def test_the_client_has_a_method(action: Action) -> None:
    method = getattr(Client, action.name)
    assert next(iter(inspect.signature(method).parameters.values())).name == "self"
    assert (method.__doc__ or "").strip()


@EVERY
def test_there_is_a_command_with_its_help(action: Action) -> None:
    command = main.commands[action.name]
    assert (command.help or "").startswith(action.help)
    assert f"light-run {action.name}" in (command.help or "")


@EVERY
def test_the_route_calls_the_service(action: Action) -> None:
    methods = {name: name for name in dir(RunService) if not name.startswith("_")}
    service: Any = SimpleNamespace(**methods)
    routes = ActionRoutes(service, waiters=Places(1), body_limit=1)
    assert str(routes._call(action)) in methods
