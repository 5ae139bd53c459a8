"""Signals to the command in a container, so that they reach the program and not only the shell that started it."""

from __future__ import annotations

from signal import Signals

from light_run.engine.daemon.client import Engine
from light_run.errors import EngineRefused

# The container's init passes a signal to its child only. If that is a shell with a program at work ("a; b"), the
# shell would die first and take the program along, without any grace. So the shell is halted, its children get the
# signal, and the shell gets it, too, once they have ended: what follows in the shell's script is not executed. A shell
# that traps the signal itself is left to do as it likes; bash always catches SIGINT while a child is at work.
# Arguments: $1 and $2 are the signal's name and number. Only POSIX built-ins and /proc are used, but for sleep, which
# an image may lack.
_SCRIPT = """\
main=
for each in /proc/[0-9]*; do
  pid=${each#/proc/}
  if [ "$pid" != 1 ] && [ "$pid" != $$ ] && { [ -z "$main" ] || [ "$pid" -lt "$main" ]; }; then main=$pid; fi
done
[ -n "$main" ] || exit 0
read -r name < "/proc/$main/comm"
children() {
  for each in /proc/[0-9]*; do
    while read -r key value rest; do
      case $key in
        State:) state=$value ;;
        PPid:) if [ "$value" = "$main" ] && [ "$state" != Z ]; then echo "${each#/proc/}"; fi; break ;;
      esac
    done 2>/dev/null < "$each/status"
  done
}
trapped=0
while read -r key value; do
  if [ "$key" = SigCgt: ]; then trapped=$((0x$value >> ($2 - 1) & 1)); fi
done < "/proc/$main/status"
if [ "$name $1" = "bash INT" ]; then trapped=0; fi
case $name$trapped in
  sh0 | ash0 | dash0 | bash0 | busybox0)
    kill -s STOP "$main"
    found=$(children)
    if [ -n "$found" ]; then
      kill -s "$1" $found
      while [ -n "$(children)" ]; do sleep 0.02 2>/dev/null || sleep 1 2>/dev/null || :; done
    fi
    kill -s "$1" "$main"
    kill -s CONT "$main"
    ;;
  *) kill -s "$1" "$main" ;;
esac
"""


# Of a command that was killed by signal n, shells and inits give this and n as the exit code.
_KILLED = 128


def signal_of(code: int) -> str | None:
    """Return the name of the signal that an exit code tells of, None where it tells of none."""
    try:
        return Signals(code - _KILLED).name if code > _KILLED else None
    except ValueError:
        return None


def send_signal(engine: Engine, container: str, signal: str) -> None:
    """Send the program in `container` a signal, such as ``SIGTERM``; a container that has ended is fine.

    Where the image has no shell, or the container no room for another process, the signal goes to its init.
    """
    number = str(Signals[signal].value)
    try:
        engine.execute(container, ("sh", "-c", _SCRIPT, "sh", signal.removeprefix("SIG"), number))
    except EngineRefused:
        engine.kill(container, signal)
