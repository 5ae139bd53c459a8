"""Descriptions of the fields of requests, and complete examples."""

from __future__ import annotations

FIELDS = {
    "image": "The name of the image. `pull` says when it is pulled.",
    "files": "Relative path to content: a string, written as UTF-8, or an object. A name has at most 255 bytes, "
    "and a path cannot be both a file and the folder of another file.",
    "entrypoint": "Executed as `sh -c ENTRYPOINT`. Default: the image's own entrypoint and command.",
    "run": "Commands that are executed once; the result is cached as an image.",
    "setup": "Another name for `run`. Use only one of the two.",
    "input": "Written to stdin as JSON, followed by the end of file, even if it is `null`. Default: stdin is empty.",
    "stdin": "Written to stdin unchanged, followed by the end of file: text, or an object. Use this or `input`.",
    "timeout": "Milliseconds from the start of the container, as an integer.",
    "stepTimeout": "Milliseconds for all steps of `run` together, including the time spent waiting for another request "
    "that builds the same steps. After that, the run ends as `build_failed`.",
    "network": "`none`, `bridge` or the name of an existing network. Default: the isolated network.",
    "networks": "Networks of the container, instead of `network`. It is created on the first one and connected to the "
    "others before the command starts. `none` cannot be combined with others.",
    "workdir": "The files are put here, and the command starts here.",
    "env": (
        "Environment variables, passed unchanged: at most 131071 bytes each, including name and `=`, 1.5 MiB in total."
    ),
    "extract": "Paths in the container to keep as artifacts, absolute or relative to `workdir`. `*`, `?` and `[...]` "
    "match within a name, `**` matches any number of folders.",
    "detached": "Return as soon as the run is accepted, instead of when it ends.",
    "output": "The output in the state: `lines` for `logs`, or `split` for `stdout` and `stderr` instead.",
    "callbackUrl": "The URL that the final state is POSTed to.",
    "callbackSecret": "The key for the signature of the callback.",
    "limits": "Resource limits, at most those that the server allows.",
    "runtime": "A runtime of the engine that the server allows.",
    "pull": "When the image is pulled: if the engine does not have it, for each run, or never.",
    "user": "The user of the command: `1000`, `1000:1000` or a name in the image. Steps run as the image's own user.",
    "registryAuth": "Credentials for pulling this run's image: `username` and `password`, or an identity `token`. "
    "Kept in memory only: if the server restarts before the pull, the run is `pull_failed`.",
    "platform": "What the image has to be for, such as `linux/amd64`. Other platforms than the engine's end the run "
    "as `start_failed`.",
    "interactive": "Keep stdin open for `POST /runs/ID/stdin`, after what `input` or `stdin` has; requires `detached`. "
    "A restart of the server closes it.",
    "labels": "Labels of the run, included in its state and in lists. `GET /runs?label=KEY=VALUE` filters by them.",
}

NETWORK = {
    "name": "Letters, digits, `_`, `.` and `-`; not the name of one of the engine's own networks.",
    "driver": "Only `bridge` is supported.",
    "iccEnabled": "Whether containers on the network can reach each other. Default: false.",
    "exclusive": "Whether it is an error if the network exists already.",
    "labels": "Labels of the network in the engine.",
    "ipam": "Addresses: `subnet`, `gateway` and `ipRange`, all optional.",
    "prefix": "Only networks whose names begin with this.",
    "maxAgeMs": "Only networks of at least this age in milliseconds.",
}


REGISTRY_AUTH = {
    "username": "The user name at the registry.",
    "password": "The password, or an access token that the registry accepts as one.",
    "token": "An identity token from `docker login`.",
}

LIMITS = {
    "memory": 'Bytes, or text such as `"512m"` within the same bounds.',
    "cpus": "The number of CPUs, which may be a fraction.",
    "pids": "The maximum number of processes and threads.",
    "shm": 'Size of `/dev/shm`: bytes, or text such as `"256m"`. Its contents count as memory.',
    "nofile": "The maximum number of open files of a process.",
    "fsize": 'The maximum size of a file: bytes, or text such as `"10m"`.',
    "gpus": 'A number of GPUs, or `"all"`, if the server allows it.',
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
    "disk": {
        "freeBytes": 52_613_349_376,
        "totalBytes": 105_089_261_568,
        "guards": ["size", "unlinked", "free_space"],
    },
    "maintenance": MAINTENANCE,
    "token": {"name": "ci", "scopes": ["read", "run"], "required": True},
    "findings": [{"check": "disk", "level": "ok", "summary": "52.6 GB of 105.1 GB free", "fix": ""}],
}

LINE = '{"seq":0,"time":"2026-04-20T10:00:00.084Z","stream":"stdout","text":"Hello, Ada"}'
