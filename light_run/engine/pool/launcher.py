"""The launcher: a shell that waits inside a parked container, and the script that turns it into a run's command.

The shell reads its stdin line by line up to a marker, evaluates the lines and is replaced by the command. The rest of
stdin is the command's input: POSIX ``read -r`` reads one byte at a time from a pipe, so the shell consumes none of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# The exit code of a launcher whose stdin ended before the marker: no command was started.
NOTHING_STARTED = 125

# At end-of-file before the marker, the launcher exits and runs nothing. No image has variables of these names in its
# environment: assigning to an inherited variable would export it.
_LAUNCHER = f"""\
while IFS= read -r __light_run_line; do
if [ "$__light_run_line" = "$1" ]; then eval "$__light_run_script"; fi
__light_run_script="$__light_run_script$__light_run_line
"
done
exit {NOTHING_STARTED}"""

# The waiting shell reads the script byte by byte, with one system call each.
_LONGEST_SCRIPT = 1 << 16

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Variables that some shells set, refuse to set, or read at their start: they do not pass through a shell unchanged.
# Those of bash begin with its name.
_SHELL_VARIABLES = frozenset(
    """
    _ COLUMNS DIRSTACK EGID ENV EPOCHREALTIME EPOCHSECONDS ERRNO EUID FUNCNAME GID GROUPS HISTCMD IFS KSHEGID
    KSHGID KSHUID KSH_VERSION LINENO LINES MAIL MAILCHECK MAILPATH OLDPWD OPTARG OPTERR OPTIND PATHCHECK PGRP
    PIPESTATUS POSIXLY_CORRECT PPID PS1 PS2 PS4 PWD RANDOM SECONDS SHELLOPTS SHLVL SRANDOM TMOUT UID USERNAME
    USER_ID
    """.split()  # noqa: SIM905 - as a list it would be a page long
)
_BASH_PREFIX = "BASH"
# A shell warns of an unknown locale when one is assigned, in addition to its warning at the start.
_LOCALE_PREFIX = "LC_"


def waiting_command(marker: str) -> Sequence[str]:
    """Return the command of a parked container that waits for a script that ends with the line `marker`."""
    return ("sh", "-c", _LAUNCHER, "sh", marker)


def passes_through_shell(names: Sequence[str]) -> bool:
    """True if variables with these names reach the command unchanged through a shell."""
    return all(
        _NAME.fullmatch(name) and name not in _SHELL_VARIABLES and not name.startswith(_BASH_PREFIX)
        for name in names
    )


def launch_script(command: Sequence[str], env: Mapping[str, str], marker: str) -> bytes | None:
    """Return the script that launches `command`, or None if it cannot be launched from a shell."""
    if not passes_through_shell(list(env)) or any(name.startswith(_LOCALE_PREFIX) for name in env):
        return None
    lines = [f"export {name}={_quoted(value)}\n" for name, value in env.items()]
    # The waiting shell has added these to its environment.
    lines.append("unset PWD OLDPWD SHLVL _\n")
    lines.append("exec " + " ".join(_quoted(word) for word in command) + f"\n{marker}\n")
    try:
        script = "".join(lines).encode()
    except UnicodeEncodeError:
        return None
    # A shell drops NUL bytes silently.
    return script if len(script) <= _LONGEST_SCRIPT and b"\0" not in script else None


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
