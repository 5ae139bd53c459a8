"""The shell that waits in a parked container, tried out with every shell this machine has.

What counts is that a command finds the same whether it went through the waiting shell or not. So most tests
run one both ways: as the engine would start it (`cold`), and launched (`parked`).
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from light_run.engine.pool.launcher import (
    NOTHING_STARTED,
    launch_script,
    passes_through_shell,
    waiting_command,
)

MARKER = "f00d" * 8
# Every variable of the command's own environment, as it is.
SHOW = ("sh", "-c", "exec env -0")


@dataclass(frozen=True)
class Shell:
    """A program that may be some image's ``sh``; `folder` has it by that name."""

    name: str
    folder: str

    def run(self, command: Sequence[str], stdin: bytes, env: Mapping[str, str]) -> Ended:
        """Run `command`, whose first word is ``sh``, with this shell for it, also where it calls one itself."""
        assert command[0] == "sh"
        done = subprocess.run(
            command,
            executable=f"{self.folder}/sh",
            input=stdin,
            env=dict(env),
            cwd=self.folder,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @property
    def image(self) -> dict[str, str]:
        """What such an image would have for its environment."""
        return {"PATH": f"{self.folder}:/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "HOSTNAME": "c0ffee"}


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def environment(self) -> dict[bytes, bytes]:
        """What `SHOW` wrote."""
        assert (self.code, self.stderr) == (0, b"")
        pairs = (entry.partition(b"=") for entry in self.stdout.split(b"\0") if entry)
        return {name: value for name, _, value in pairs}


# Bash called sh behaves as POSIX wants; so it is the /bin/sh of some images, busybox and dash of others.
PROGRAMS = {name: path for name in ("sh", "dash", "bash", "busybox") if (path := shutil.which(name))}


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shell]:
    """Every shell of this machine, by its name."""
    found = {}
    for name, program in PROGRAMS.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "sh").symlink_to(program)
        found[name] = Shell(name, str(folder))
    return found


@pytest.fixture(params=PROGRAMS)
def shell(request: pytest.FixtureRequest, shells: dict[str, Shell]) -> Shell:
    """Each shell there is."""
    return shells[request.param]


def cold(
    shell: Shell, command: Sequence[str], env: Mapping[str, str], *, image: Mapping[str, str] | None = None
) -> Ended:
    """`command` as the engine starts it, with the image's variables and those of the run."""
    return shell.run(command, b"", {**shell.image, **(image or {}), **env})


def parked(
    shell: Shell,
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    image: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Ended:
    """`command` launched in a shell that waited with the image's variables."""
    script = launch_script(command, env, MARKER)
    assert script is not None
    return shell.run(waiting_command(MARKER), script + stdin, {**shell.image, **(image or {})})


# --- the environment --------------------------------------------------------------------------------------

VALUES = [
    "",
    " ",
    "plain",
    "two words",
    "'",
    "''",
    '"',
    "'\\''",
    "\\",
    "\\\\",
    "\\n",
    "ends with \\",
    "$(id)",
    "`id`",
    "${HOME}",
    "$HOME",
    "!!",
    "a\nb",
    "\n",
    "\n\n",
    "ends with newline\n",
    "\r\n",
    "\t",
    " leading and trailing ",
    "*",
    "~",
    "#comment",
    ";exit 3",
    "&&",
    "a=b=c",
    MARKER,
    "ünï \U0001f600 \u2028",
    "\x01\x02\x1b[0m\x7f",
    "\x80\xa0\xff",
    # Every byte that can follow in UTF-8, 0x80 to 0xbf; some shells use a few of them as marks of their own.
    "".join(map(chr, range(0x80, 0xC0))) + "".join(chr(0x2000 + byte) for byte in range(64)),
    "-n",
    "x" * 5000,
]


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C.UTF-8"}, {"LANG": "C"}])
def test_values_arrive_as_they_are(shell: Shell, locale: dict[str, str]) -> None:
    env = {f"V{number}": value for number, value in enumerate(VALUES)}
    found = parked(shell, SHOW, env, image=locale).environment
    for name, value in env.items():
        assert found[name.encode()] == value.encode(), value
    assert found == cold(shell, SHOW, env, image=locale).environment


def test_without_any_variable_nothing_is_added(shell: Shell) -> None:
    assert parked(shell, SHOW, {}).environment == cold(shell, SHOW, {}).environment


def test_a_variable_of_the_run_wins_over_the_image_s(shell: Shell) -> None:
    image = {"A": "of the image", "B": "of the image"}
    found = parked(shell, SHOW, {"A": "of the run", "C": ""}, image=image).environment
    assert (found[b"A"], found[b"B"], found[b"C"]) == (b"of the run", b"of the image", b"")


@settings(max_examples=40)
@given(
    env=st.dictionaries(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "PATH"),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60),
        max_size=6,
    ),
    name=st.sampled_from(list(PROGRAMS)),
)
def test_any_environment(shells: dict[str, Shell], env: dict[str, str], name: str) -> None:
    assume(launch_script(SHOW, env, MARKER) is not None)
    shell = shells[name]
    found = parked(shell, SHOW, env)
    # In whatever order: that is each shell's own business, and no program's.
    assert found.environment == cold(shell, SHOW, env).environment
    assert {name.encode(): value.encode() for name, value in env.items()}.items() <= found.environment.items()


@settings(max_examples=40)
@given(
    data=st.lists(
        st.sampled_from(["\u0080", "\u00bf", "\n", "'", "\\", '"', "$", "`", " ", "\x01", "é", "\U0001f4a9"])
    )
    .map("".join)
    .filter(lambda text: len(text) < 200),
    name=st.sampled_from(list(PROGRAMS)),
)
def test_any_mixture_of_what_shells_stumble_over(shells: dict[str, Shell], data: str, name: str) -> None:
    env = {"V": data, "W": data[::-1]}
    command = ("sh", "-c", f'printf %s "$V"; printf %s {_quote(data)}')
    assert parked(shells[name], command, env) == Ended(0, 2 * data.encode(), b"")


def _quote(text: str) -> str:
    # Not the launcher's own way of quoting.
    return '"' + "".join(f"\\{char}" if char in '\\"$`' else char for char in text) + '"'


# Variables that bash, dash and busybox know, from their manuals; PATH and those that name a file to be read
# by the shell at its start have tests of their own.
KNOWN = """
    A_ AUTO_RESUME BASH BASHOPTS BASHPID BASH_ALIASES BASH_ARGC BASH_ARGV BASH_ARGV0 BASH_CMDS BASH_COMMAND
    BASH_COMPAT BASH_EXECUTION_STRING BASH_LINENO BASH_LOADABLES_PATH BASH_MONOSECONDS BASH_REMATCH BASH_SOURCE
    BASH_SUBSHELL BASH_TRAPSIG BASH_VERSINFO BASH_VERSION BASH_XTRACEFD CDPATH CHILD_MAX COLUMNS COMPREPLY
    COMP_CWORD COMP_KEY COMP_LINE COMP_POINT COMP_TYPE COMP_WORDBREAKS COMP_WORDS COPROC DIRSTACK EMACS
    EPOCHREALTIME EPOCHSECONDS ERRNO EUID EXECIGNORE FCEDIT FIGNORE FUNCNAME FUNCNEST GLOBIGNORE GLOBSORT GROUPS
    HISTCMD HISTCONTROL HISTFILE HISTFILESIZE HISTIGNORE HISTSIZE HISTTIMEFORMAT HOME HOSTFILE HOSTNAME HOSTTYPE
    IFS IGNOREEOF INPUTRC INSIDE_EMACS LANG LC_ALL LC_COLLATE LC_CTYPE LC_MESSAGES LC_NUMERIC LC_TIME LINENO LINES
    LOGNAME MACHTYPE MAIL MAILCHECK MAILPATH MAPFILE NLSPATH OLDPWD OPTARG OPTERR OPTIND OSTYPE PATHCHECK
    PIPESTATUS POSIXLY_CORRECT PPID PROMPT_COMMAND PROMPT_DIRTRIM PS0 PS1 PS2 PS3 PS4 PWD RANDOM READLINE_ARGUMENT
    READLINE_LINE READLINE_MARK READLINE_POINT REPLY SECONDS SHELL SHELLOPTS SHLVL SRANDOM TERM TERMCAP TIMEFORMAT
    TMOUT TMPDIR TZ UID USER _
    """.split()  # noqa: SIM905 - as a list it would be a page long


@pytest.mark.parametrize("of_image", [False, True])
@pytest.mark.parametrize("value", ["x", "", "1", "0", "C.UTF-8", "/nowhere", "3:4", "a b"])
def test_variables_that_a_shell_knows(shell: Shell, value: str, of_image: bool) -> None:
    env = {name: value for name in KNOWN if passes_through_shell([name])}
    # What is left out takes the cold path; that may not be all.
    assert len(env) > len(KNOWN) // 3
    if of_image:
        # The image of a shell that complains about its locale is never parked: it does not keep silent.
        env = {name: value for name, value in env.items() if not name.startswith("LC_")}
        assert parked(shell, SHOW, {}, image=env).environment == cold(shell, SHOW, env).environment
    else:
        env = {name: value for name, value in env.items() if launch_script(SHOW, {name: value}, MARKER)}
        assert {"HOME", "LANG", "TERM", "TZ", "USER"} <= set(env)
        assert parked(shell, SHOW, env).environment == cold(shell, SHOW, env).environment


def test_a_search_path_of_the_run_s_own(shell: Shell) -> None:
    env = {"PATH": f"{shell.folder}:/usr/bin"}
    assert parked(shell, SHOW, env).environment == cold(shell, SHOW, env).environment


@pytest.mark.parametrize("name", ["1A", "", "A-B", "A.B", "A B", "A=B", "Ä", "A\n", "A\0"])
def test_names_no_shell_can_set(name: str) -> None:
    assert not passes_through_shell([name])
    assert not passes_through_shell(["GOOD", name])
    assert launch_script(SHOW, {name: "x"}, MARKER) is None


@pytest.mark.parametrize(
    "name", ["ENV", "BASH_ENV", "IFS", "PWD", "_", "SHELLOPTS", "TMOUT", "PPID", "SRANDOM"]
)
def test_names_that_mean_something_to_a_shell(name: str) -> None:
    assert not passes_through_shell([name])


# --- the command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entrypoint",
    [
        "true",
        "exit 7",
        "kill -9 $$",
        "echo out; echo err >&2",
        'echo "$0" $#',
        "pwd; cd /; pwd",
        "umask; ulimit -n; ulimit -c; ulimit -s",
        "ls /proc/self/fd",
        "tr '\\0' '\\n' < /proc/$$/cmdline",
        "echo 'quote' \"double\" \\\\ $((1+1)) `echo back` $(echo sub)",
        "cat <<'EOF'\nhere $HOME\nEOF",
        "syntax error (",
        "no-such-command-1",
        "set -e; false; echo never",
        "trap 'echo bye' EXIT; echo hi",
        f"echo {MARKER}",
        "type __light_run_script >/dev/null 2>&1; echo ${__light_run_script-unset} ${__light_run_line-unset}",
        "case $- in *i*) echo interactive;; *) echo not;; esac",
        "set | grep -c __light_run",
        "printf '\\377\\200'",
        "sleep 0.01 & wait; echo done",
    ],
)
def test_a_command_finds_and_does_the_same(shell: Shell, entrypoint: str) -> None:
    command = ("sh", "-c", entrypoint)
    assert parked(shell, command, {"A": "1"}) == cold(shell, command, {"A": "1"})


def test_the_launcher_is_gone(shell: Shell) -> None:
    # One process, which is the command's own: nothing waits behind it.
    command = ("sh", "-c", "tr '\\0' '\\n' < /proc/$$/cmdline; grep -c . /proc/$$/task/$$/children; true")
    found = parked(shell, command, {})
    assert found.stdout.startswith(b"sh\n-c\n")
    assert MARKER.encode() not in found.stdout


# --- the input --------------------------------------------------------------------------------------------

INPUTS = [
    b"",
    b"x",
    b"\n",
    b"no newline at the end",
    b'{"json": 1}\n',
    b"line\n" * 5000,
    bytes(range(256)) * 40,
    b"\0\0\0",
    MARKER.encode() + b"\n",
    b"exit 3\n" + MARKER.encode() + b"\nexit 4\n",
    b"x" * 300_000,
]


@pytest.mark.parametrize("stdin", INPUTS, ids=range(len(INPUTS)))
def test_none_of_the_input_is_swallowed(shell: Shell, stdin: bytes) -> None:
    assert parked(shell, ("sh", "-c", "exec cat"), {"A": "b\nc"}, stdin=stdin) == Ended(0, stdin, b"")


def test_the_input_is_read_by_whoever_comes_first(shell: Shell) -> None:
    command = ("sh", "-c", "read -r first; echo [$first]; exec cat")
    assert parked(shell, command, {}, stdin=b"one\ntwo\nthree").stdout == b"[one]\ntwo\nthree"


# --- nothing to start -------------------------------------------------------------------------------------


def cuts() -> list[int]:
    script = launch_script(("sh", "-c", "echo started"), {"A": "x\ny"}, MARKER)
    assert script is not None
    return [*range(0, len(script), 9), len(script) - 2, len(script) - 1]


@pytest.mark.parametrize("cut", cuts())
def test_an_end_before_the_marker_starts_nothing(shell: Shell, cut: int) -> None:
    script = launch_script(("sh", "-c", "echo started"), {"A": "x\ny"}, MARKER)
    assert script is not None
    ended = shell.run(waiting_command(MARKER), script[:cut], shell.image)
    assert ended == Ended(NOTHING_STARTED, b"", b"")


def test_another_marker_starts_nothing(shell: Shell) -> None:
    script = launch_script(("sh", "-c", "echo started"), {}, "beef" * 8)
    assert script is not None
    assert shell.run(waiting_command(MARKER), script, shell.image) == Ended(NOTHING_STARTED, b"", b"")


def test_a_marker_in_a_value_is_not_the_end_of_the_script(shell: Shell) -> None:
    # Nobody outside knows it; if somebody did, it would have to stand on a line of its own.
    env = {"A": f"x{MARKER}", "B": f"{MARKER}x"}
    assert parked(shell, SHOW, env).environment.items() >= {b"A": f"x{MARKER}".encode()}.items()


# --- what cannot be launched ------------------------------------------------------------------------------


def test_a_script_that_would_take_the_shell_too_long() -> None:
    assert launch_script(SHOW, {"A": "x" * 1000}, MARKER) is not None
    assert launch_script(SHOW, {"A": "x" * 70_000}, MARKER) is None
    assert launch_script(("sh", "-c", "x" * 70_000), {}, MARKER) is None


@pytest.mark.parametrize(
    ("command", "env"),
    [
        (("sh", "-c", "echo a\0b"), {}),
        (("sh", "-c", "true"), {"A": "a\0b"}),
        (("sh", "-c", "echo \ud800"), {}),
        (("sh", "-c", "true"), {"A": "\udcff"}),
    ],
)
def test_what_a_shell_would_read_otherwise(command: Sequence[str], env: dict[str, str]) -> None:
    # A shell drops a NUL without a word; what is no text cannot be sent. The engine may say what it thinks of it.
    assert launch_script(command, env, MARKER) is None


def test_the_script_is_the_same_however_the_shell_is_called() -> None:
    one, other = (launch_script(SHOW, {"A": "1", "B": "2"}, marker) for marker in ("a" * 32, "b" * 32))
    assert one is not None
    assert other is not None
    assert one.replace(b"a" * 32, b"b" * 32) == other
    assert one.endswith(b"\n" + b"a" * 32 + b"\n")
    for line, marker in itertools.product(waiting_command("m")[2].splitlines(), ("export ", "exec ")):
        assert marker not in line
