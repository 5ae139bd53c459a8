"""What the fields of a request mean, for people; and examples that are whole."""

from __future__ import annotations

FIELDS = {
    "image": "The image; `pull` says when its registry is asked for it.",
    "files": "Relative path to content: a string, written as UTF-8, or an object. A name has 255 bytes at most, "
    "and no path may be both a file and another's folder.",
    "entrypoint": "Executed as `sh -c ENTRYPOINT`. Left out: the image's own entrypoint and command.",
    "run": "Steps that are executed once and cached as an image.",
    "setup": "Another name of `run`; give one of the two.",
    "input": "Written to stdin as JSON, then the end of file; `null` counts too. Left out: stdin is at its end.",
    "stdin": "Written to stdin as it is, then the end of file: text, or an object. Give either this or `input`.",
    "timeout": "Milliseconds from the start of the container, written without a fraction.",
    "stepTimeout": "Milliseconds for all steps of `run` together, with the time in which they wait for another "
    "request's build of the same; then the run ends as `build_failed`.",
    "network": "`none`, `bridge` or the name of a network that exists. Left out: the isolated network.",
    "networks": "Networks of the container, in place of `network`: the first is its own, and the others are connected "
    "before the command starts. `none` stands alone.",
    "workdir": "Files land here, and the command starts here.",
    "env": (
        "Environment variables, passed as they are: 131071 bytes each at most, with name and `=`, and 1.5 MiB in all."
    ),
    "extract": "Paths in the container to keep as artifacts, absolute or relative to `workdir`. `*`, `?` and `[...]` "
    "match within a name, `**` any number of folders.",
    "detached": "Answer when the run is accepted, not when it has ended.",
    "output": "How the state has the output: `logs`, its lines, or `split`, in place of them `stdout` and `stderr`.",
    "callbackUrl": "Where the final state is POSTed to.",
    "callbackSecret": "Signs the callback.",
    "limits": "At most what the server allows.",
    "runtime": "A runtime of the engine that the server allows.",
    "pull": "When the registry is asked for the image: where the engine does not have it, each time, or never.",
    "user": "Of the command: `1000`, `1000:1000` or a name of the image's. Steps run as the image's own.",
    "registryAuth": "For this run's pull: `username` and `password`, or an identity `token`. Kept in memory only: a "
    "run whose image has to be pulled after a restart of the server is `pull_failed`.",
    "interactive": "Stdin stays open for `POST /runs/ID/stdin`; needs `detached`. What `input` or `stdin` has comes "
    "first. A restart of the server ends it.",
    "labels": "Your own marks of the run, in its state and in lists: `GET /runs?label=KEY=VALUE` filters by them.",
}

NETWORK = {
    "name": "Letters, digits, `_`, `.` and `-`; not a name of the engine's own.",
    "driver": "`bridge`, the only one.",
    "iccEnabled": "Whether containers on the network reach each other. Left out: they do not.",
    "exclusive": "Whether a network that exists already is an error.",
    "labels": "Labels of the network at the engine.",
    "ipam": "Addresses: `subnet`, `gateway` and `ipRange`, each of them optional.",
    "prefix": "Only names that begin with this.",
    "maxAgeMs": "Only networks that are at least so many milliseconds old.",
}


REGISTRY_AUTH = {
    "username": "Of the registry.",
    "password": "Or an access token that the registry takes for one.",
    "token": "An identity token, as `docker login` gets it.",
}

LIMITS = {
    "memory": 'Bytes, or text such as `"512m"` within the same bounds.',
    "cpus": "CPUs, fractions too.",
    "pids": "Processes and threads.",
    "shm": 'Size of `/dev/shm`: bytes, or text such as `"256m"`. What is in there counts as memory.',
    "nofile": "Open files of a process.",
    "fsize": 'Size of a single file: bytes, or text such as `"10m"`.',
    "gpus": 'A number of GPUs, or `"all"`, where the server allows it.',
}

RUN_ID = "0b9d5b6e-6f0e-4b4c-9a35-2d8f1c7e4a10"

REQUEST = {
    "image": "alpine:3.19",
    "files": {"greet.sh": "while read -r name; do echo Hello, $name; done", "in/names.txt": "Ada\nGrace\n"},
    "entrypoint": "sh greet.sh < in/names.txt | tee greetings.txt",
    "timeout": 60000,
    "network": "none",
    "extract": ["greetings.txt"],
    "labels": {"team": "search"},
}

DETACHED = {
    **REQUEST,
    "detached": True,
    "callbackUrl": "https://example.com/ended",
    "callbackSecret": "a secret of yours",
}

SUMMARY = {
    "id": RUN_ID,
    "status": "succeeded",
    "startedAt": "2026-04-20T10:00:00.000Z",
    "finishedAt": "2026-04-20T10:00:00.120Z",
    "exitCode": 0,
    "durationMs": 120,
    "artifacts": [{"path": "greetings.txt", "bytes": 24, "type": "file"}],
    "reason": "exit",
    "extracted": [{"path": "greetings.txt", "status": "ok", "bytes": 24}],
    "timings": {"queuedMs": 0.4, "imageMs": 1.5, "startMs": 11.2, "runMs": 35.6, "extractMs": 2.3},
    "usage": {"cpuMs": 41, "memoryPeakBytes": 3813376, "diskBytes": 16384},
    "parked": True,
    "labels": {"team": "search"},
}

STATE = {**SUMMARY, "logs": ["Hello, Ada", "Hello, Grace"]}

CALLBACK = {
    "state": "pending",
    "attempts": 3,
    "lastStatus": 503,
    "nextAttemptAt": "2026-04-20T10:01:00.000Z",
}

FOLDER = [{"path": "plots", "type": "directory"}, {"path": "greetings.txt", "type": "file"}]

HEALTH = {"status": "ok", "docker": True, "workspace": "bind"}

MAINTENANCE = {
    "at": "2026-04-20T10:00:00.000Z",
    "durationMs": 412,
    "containers": 0,
    "workspaces": 0,
    "cacheImages": 3,
    "danglingImages": 0,
    "freedBytes": 734_003_200,
    "networks": 1,
    "failed": [],
}

INFO = {
    "version": "0.4.0",
    "docker": True,
    "engine": {
        "name": "Docker Engine 29.0.1",
        "address": "unix:///var/run/docker.sock",
        "runtimes": ["runc"],
        "missingLimits": [],
    },
    "workspace": "bind",
    "firewall": "active",
    "disk": {"freeBytes": 52_613_349_376, "totalBytes": 105_089_261_568},
    "maintenance": MAINTENANCE,
    "token": {"name": "ci", "scopes": ["read", "run"], "required": True},
}

LINE = '{"seq":0,"time":"2026-04-20T10:00:00.084Z","stream":"stdout","text":"Hello, Ada"}'
