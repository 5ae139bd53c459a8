"""The shell that waits inside a parked container, and what is sent to it to become the run's command.

The shell reads its stdin line by line until a marker it was given, evaluates what it read and is
replaced by the command; what follows on stdin is the command's own input. POSIX ``read -r`` takes
one byte at a time from a pipe, so none of that input is swallowed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# Exit code of a launcher whose stdin ended before the marker: nothing was started.
NOTHING_STARTED = 125

# At end-of-file before the marker it exits and runs nothing. Its variables are named so that no image's
# environment has them: assigning to one that was inherited would export it.
_LAUNCHER = f"""\
while IFS= read -r __light_run_line; do
if [ "$__light_run_line" = "$1" ]; then eval "$__light_run_script"; fi
__light_run_script="$__light_run_script$__light_run_line
"
done
exit {NOTHING_STARTED}"""

# Each byte of the script is a system call of the waiting shell.
_LONGEST_SCRIPT = 1 << 16

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Variables that some shell sets, refuses to set, or reads when it starts: a value for one of them
# does not pass through a shell unchanged. Bash's own begin with its name.
_SHELLS_OWN = frozenset(
    """
    _ COLUMNS DIRSTACK EGID ENV EPOCHREALTIME EPOCHSECONDS ERRNO EUID FUNCNAME GID GROUPS HISTCMD IFS KSHEGID
    KSHGID KSHUID KSH_VERSION LINENO LINES MAIL MAILCHECK MAILPATH OLDPWD OPTARG OPTERR OPTIND PATHCHECK PGRP
    PIPESTATUS POSIXLY_CORRECT PPID PS1 PS2 PS4 PWD RANDOM SECONDS SHELLOPTS SHLVL SRANDOM TMOUT UID USERNAME
    USER_ID
    """.split()  # noqa: SIM905 - as a list it would be a page long
)
_BASHS_OWN = "BASH"
# Assigned in a shell, an unknown locale makes it warn once more than one it was started with.
_LOCALE = "LC_"


def waiting_command(marker: str) -> Sequence[str]:
    """The command of a parked container that waits for a script ended by the line `marker`."""
    return ("sh", "-c", _LAUNCHER, "sh", marker)


def passes_through_shell(names: Sequence[str]) -> bool:
    """True where variables of these names reach the command the same through a shell as without one."""
    return all(
        _NAME.fullmatch(name) and name not in _SHELLS_OWN and not name.startswith(_BASHS_OWN)
        for name in names
    )


def launch_script(command: Sequence[str], env: Mapping[str, str], marker: str) -> bytes | None:
    """What to send to the waiting shell; None where the command cannot be launched that way."""
    if not passes_through_shell(list(env)) or any(name.startswith(_LOCALE) for name in env):
        return None
    lines = [f"export {name}={_quoted(value)}\n" for name, value in env.items()]
    # What the waiting shell itself put into its environment.
    lines.append("unset PWD OLDPWD SHLVL _\n")
    lines.append("exec " + " ".join(_quoted(word) for word in command) + f"\n{marker}\n")
    try:
        script = "".join(lines).encode()
    except UnicodeEncodeError:
        return None
    # A shell drops a NUL without a word.
    return script if len(script) <= _LONGEST_SCRIPT and b"\0" not in script else None


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
