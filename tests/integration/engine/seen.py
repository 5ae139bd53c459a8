"""Run inside a container: writes, as JSON, all that a program can see of where it runs."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import stat
import sys
from typing import Any


def kind(descriptor: int) -> str:
    mode = os.fstat(descriptor).st_mode
    return "fifo" if stat.S_ISFIFO(mode) else oct(stat.S_IFMT(mode))


def text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError as error:
        return type(error).__name__


def status(names: list[str]) -> dict[str, str | None]:
    lines = dict(line.split(":\t", 1) for line in text("/proc/self/status").splitlines())
    return {name: lines.get(name) for name in names}


def cgroup(paths: list[str]) -> str | None:
    # Version 1 has a folder a controller, version 2 one for all.
    found = (f"/sys/fs/cgroup/{path}" for path in paths)
    return next((text(path) for path in found if os.path.exists(path)), None)


STATUS = """
    SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Cpus_allowed Threads TracerPid
"""

seen: dict[str, Any] = {
    "environment": dict(os.environ),
    "directory": os.getcwd(),
    "user": [os.getresuid(), os.getresgid(), sorted(os.getgroups())],
    "umask": os.umask(0o22),
    # The folder that is listed is one of them.
    "descriptors": sorted({int(name) for name in os.listdir("/proc/self/fd")} - {3}),
    "kinds": [kind(descriptor) for descriptor in range(3)],
    "terminal": [os.isatty(descriptor) for descriptor in range(3)],
    "command": text(f"/proc/{os.getppid()}/cmdline").split("\0")[:-1],
    "own command": sys.argv,
    "process": [os.getsid(0), os.getpgid(0) == os.getpgid(os.getppid())],
    "processes": sorted(
        int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) < os.getppid()
    ),
    "first process": text("/proc/1/comm"),
    "limits": {
        name: resource.getrlimit(getattr(resource, name))
        for name in dir(resource)
        if name.startswith("RLIMIT_")
    },
    "status": status(STATUS.split()),
    "signals": [str(signal.getsignal(number)) for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM)],
    "nice": [os.nice(0), os.sched_getscheduler(0), text("/proc/self/oom_score_adj")],
    "cgroup": {
        "memory": cgroup(["memory/memory.limit_in_bytes", "memory.max"]),
        "swap": cgroup(["memory/memory.memsw.limit_in_bytes", "memory.swap.max"]),
        "cpu": [cgroup(["cpu/cpu.cfs_quota_us", "cpu.max"]), cgroup(["cpu/cpu.cfs_period_us"])],
        "pids": cgroup(["pids/pids.max", "pids.max"]),
    },
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "host name": len(socket.gethostname()),
    "host name is in the environment": os.environ.get("HOSTNAME") == socket.gethostname(),
    "names": [text("/etc/hostname") == socket.gethostname(), text("/etc/hosts").count(socket.gethostname())],
    "workdir": [oct(os.stat(".").st_mode), os.stat(".").st_uid, os.stat(".").st_gid],
    "files": {
        name: [oct(os.stat(name).st_mode), os.stat(name).st_uid, os.stat(name).st_nlink]
        for name in os.listdir(".")
    },
    "mounts": sorted(
        line.split()[1]
        for line in text("/proc/mounts").splitlines()
        if not line.split()[1].startswith("/sys/fs/cgroup/")
    ),
    "root": sorted(os.listdir("/")),
    "temporary": os.listdir("/tmp"),
    "shared memory": os.listdir("/dev/shm"),
    "input": sys.stdin.read(),
}
seen["environment"].pop("HOSTNAME", None)
json.dump(seen, sys.stdout, sort_keys=True)
