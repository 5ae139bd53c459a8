"""The command line: help, version, what is refused; what it serves is tested with the real thing."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import light_run
from light_run.__main__ import main as start
from light_run.cli import main
from light_run.cli.commands.run import run
from light_run.config.settings import table


def light(*arguments: str, **variables: str) -> Result:
    """Run ``light-run`` with these arguments and variables."""
    return CliRunner().invoke(
        main, arguments, env={f"LIGHT_RUN_{name}": value for name, value in variables.items()}
    )


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option: str) -> None:
    result = light(option)
    assert result.exit_code == 0
    assert "serve" in result.stdout


def test_help_of_serve_has_every_option_with_its_variable() -> None:
    result = light("serve", "-h")
    assert result.exit_code == 0, result.exception
    for variable in table():
        if variable.option:
            assert variable.option in result.stdout


def test_version() -> None:
    assert light("--version").stdout == f"light-run {light_run.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--port", "http"], {}, ["--port", "http", "65535"]),
        ([], {"PORT": "0"}, ["LIGHT_RUN_PORT", "0"]),
        (["--body-limit", "-1"], {}, ["--body-limit", "-1"]),
        (["--token", "a b"], {}, ["LIGHT_RUN_TOKEN"]),
        ([], {"STATE_DIR": "/proc/none"}, ["/proc/none"]),
        (["--host", "no.such.host.invalid"], {}, ["no.such.host.invalid"]),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], words: list[str]
) -> None:
    result = light("serve", *arguments, **{"STATE_DIR": str(tmp_path), **variables})
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words)
    assert "a b" not in result.stderr


def test_the_command_loads_nothing_it_does_not_need() -> None:
    script = (
        "import sys, light_run.cli; print({'flask', 'docker', 'gunicorn', 'requests'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("line", "command", "given"),
    [
        ("i", (), ()),
        ("i ls -l -n", ("ls", "-l", "-n"), ()),
        ("-e A=1 i -n -e B=2 x -e C=3", ("x", "-e", "C=3"), ("A=1", "B=2")),
        ("-e A=1 i -n -- -e C=3", ("-e", "C=3"), ("A=1",)),
        ("-- i -n", ("-n",), ()),
        ("i x -- -n --help", ("x", "--", "-n", "--help"), ()),
    ],
)
def test_the_options_of_a_command_are_its_own(
    line: str, command: tuple[str, ...], given: tuple[str, ...]
) -> None:
    found = run.make_context("run", line.split()).params
    assert (found["image"], found["command"], found["env"]) == ("i", command, given)


def test_a_signal_before_it_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading(types.ModuleType):
        @property
        def main(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "light_run.cli", Loading("light_run.cli"))
    with pytest.raises(SystemExit) as ended:
        start()
    assert ended.value.code == 130


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "light_run", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"light-run {light_run.__version__}\n"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command there is."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("command", [(), *commands(main)], ids=" ".join)
def test_every_help_has_an_example_and_every_option_a_word(command: tuple[str, ...]) -> None:
    result = light(*command, "--help")
    assert result.exit_code == 0
    assert re.search(r"^  Examples?:\n    .*light-run " + " ".join(command), result.stdout, re.MULTILINE)
    assert "\b" not in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 100
    options = re.findall(r"^  (-.*)$", result.stdout, re.MULTILINE)
    assert all("  " in option or len(option) > 25 for option in options), options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["IMAGE"]),
        (["run", "a", "-f", "/nowhere"], ["-f", "/nowhere"]),
        (["run", "a", "-e", "NOT_SET_HERE"], ["-e", "NOT_SET_HERE=VALUE"]),
        (["run", "a", "--timeout", "0"], ["--timeout"]),
        (["run", "a", "--step-timeout", "0"], ["--step-timeout"]),
        (["run", "a", "--pull", "often"], ["missing", "always", "never"]),
        (["ps", "--status", "done"], ["succeeded"]),
        (["cp", "here", "there"], ["RUN:PATH"]),
        (["completion", "tcsh"], ["bash", "fish"]),
        (["logs"], ["RUN"]),
        (["nothing"], ["nothing"]),
    ],
)
def test_what_is_used_wrongly_is_exit_code_2(arguments: list[str], words: list[str]) -> None:
    result = light(*arguments)
    assert result.exit_code == 2
    assert all(word in result.stderr for word in words)
