"""Shell and Python programs as people send them."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.engine import ENTRYPOINT, NONROOT, NOSHELL, PYTHON, WORKDIR
from tests.support.server import Server, run_request

SHELL_ODDITIES = {
    "quotes": "a'b\"c`d",
    "substitution": "$(id) `id` ${HOME} $HOME",
    "newlines": "one\ntwo\n\nfour",
    "trailing newline": "x\n",
    "blanks": "  a   b  ",
    "backslashes": "\\n \\\\ \\t",
    "not ASCII": "\u00fcber \u4e2d\u6587 \U0001f600",
    "globs": "* ? [a-z] ~",
    "operators": "a && b || c; d | e > f & # g",
    "percent": "%s %d %%",
    "control": "\x01\x1b[31m\t\r",
    "equals": "a=b=c",
    "a marker of the shell's": "EOF\nEND\n.",
    "long": "x" * 100_000,
}


def test_python_reads_json_from_stdin(server: Server) -> None:
    program = "import sys, json\ndata = json.load(sys.stdin)\nprint(sum(data['numbers']), data['name'])\n"
    state = server.run(
        image=PYTHON,
        files={"main.py": program},
        entrypoint="python3 main.py",
        input={"numbers": [1, 2, 3], "name": "\u00fc"},
    )
    assert state["logs"] == ["6 \u00fc"], state


def test_a_python_project_of_several_files(server: Server) -> None:
    state = server.run(
        image=PYTHON,
        files={
            "main.py": "from pkg.sub.deep import answer\nprint(answer(), open('data/values.txt').read())\n",
            "pkg/__init__.py": "",
            "pkg/sub/__init__.py": "",
            "pkg/sub/deep.py": "def answer():\n    return 42\n",
            "data/values.txt": "1 2 3",
        },
        entrypoint="python3 main.py",
    )
    assert state["logs"] == ["42 1 2 3"], state


def test_a_shell_project_of_several_files(server: Server) -> None:
    state = server.run(
        files={"main.sh": ". lib/say.sh\nsay world\n", "lib/say.sh": 'say() { echo "hello $1"; }\n'},
        entrypoint="sh main.sh",
    )
    assert state["logs"] == ["hello world"]


def test_a_python_traceback_reaches_the_log(server: Server) -> None:
    state = server.run(image=PYTHON, files={"m.py": "1/0"}, entrypoint="python3 m.py")
    assert (state["status"], state["exitCode"]) == ("failed", 1)
    assert state["logs"][-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("case", SHELL_ODDITIES)
def test_env_is_literal(server: Server, case: str) -> None:
    value = SHELL_ODDITIES[case]
    state = server.run(env={"VALUE": value}, entrypoint='printf %s "$VALUE" > out', extract=["out"])
    assert server.artifact(state["id"], "out").content == value.encode()


@pytest.mark.parametrize("case", SHELL_ODDITIES)
def test_content_is_literal(server: Server, case: str) -> None:
    value = SHELL_ODDITIES[case]
    state = server.run(files={"in": value}, entrypoint="cat in > out", extract=["out"])
    assert server.artifact(state["id"], "out").content == value.encode()


def test_every_name_in_the_environment_is_the_one_given(server: Server) -> None:
    env = {"_A": "1", "lower": "2", "HOME": "/elsewhere", "PATH": "/bin:/usr/bin"}
    state = server.run(env=env, entrypoint='echo "$_A $lower $HOME $PATH"')
    assert state["logs"] == ["1 2 /elsewhere /bin:/usr/bin"]


def test_nothing_of_the_server_is_in_the_environment(server: Server) -> None:
    state = server.run(entrypoint="env")
    names = {line.partition("=")[0] for line in state["logs"]}
    assert names <= {"PATH", "HOME", "HOSTNAME", "PWD", "SHLVL", "OLDPWD", "_"}, names


@pytest.mark.parametrize(
    "name",
    [
        "\u00fcbung.txt",
        "\u4e2d\u6587/\u6587.txt",
        "with blank.txt",
        "dist/a.js",
        ".git/HEAD",
        "node_modules/m/index.js",
        ".hidden",
        "-rf",
        "a'b\"c",
        "$(id)",
        "a\nb",
        "*",
        "deep/er/and/deep/er/still.txt",
        "Dockerfile",
        ".dockerignore",
    ],
)
def test_a_file_lands_with_its_path_and_comes_out_again(server: Server, name: str) -> None:
    content = f"content of {name}\n"
    state = server.run(
        files={name: content, "main.sh": "true"},
        env={"NAME": name},
        entrypoint='cat "./$NAME" && mkdir /tmp/out && cp "./$NAME" /tmp/out/copy',
        extract=["/tmp/out/copy", f"./{name}"],
    )
    assert state["status"] == "succeeded", state
    assert "\n".join(state["logs"]) + "\n" == content
    assert server.artifact(state["id"], "copy").content == content.encode()
    assert state["extracted"][1]["status"] == "ok"


def test_nested_folders_come_out_as_they_are(server: Server) -> None:
    state = server.run(
        entrypoint="mkdir -p out/a/b/c out/d && echo 1 > out/1 && echo 2 > out/a/2 && echo 3 > out/a/b/c/3",
        extract=["out"],
    )
    paths = {(entry["path"], entry["type"]) for entry in state["artifacts"]}
    assert paths == {
        ("1", "file"),
        ("a", "directory"),
        ("a/2", "file"),
        ("a/b", "directory"),
        ("a/b/c", "directory"),
        ("a/b/c/3", "file"),
        ("d", "directory"),
    }


def test_a_3_mb_binary_made_by_python(server: Server) -> None:
    program = (
        "import hashlib, random\n"
        "data = random.Random(5).randbytes(3_000_000)\n"
        "open('out.bin', 'wb').write(data)\n"
        "print(hashlib.sha256(data).hexdigest())\n"
    )
    state = server.run(image=PYTHON, files={"m.py": program}, entrypoint="python3 m.py", extract=["out.bin"])
    content = server.artifact(state["id"], "out.bin").content
    assert len(content) == 3_000_000
    assert hashlib.sha256(content).hexdigest() == state["logs"][0]


# --- images of every kind -------------------------------------------------------------------------------


def test_an_image_whose_user_is_not_root(server: Server) -> None:
    state = server.run(
        image=NONROOT,
        files={"in.txt": "in\n", "d/e/f.txt": "f\n"},
        entrypoint="id -u; cat in.txt; echo more >> in.txt; echo x > new; echo y > d/e/new; rm d/e/f.txt",
        extract=["in.txt", "new", "d"],
    )
    assert (state["status"], state["logs"]) == ("succeeded", ["1000", "in"]), state
    assert server.artifact(state["id"], "in.txt").content == b"in\nmore\n"
    assert server.artifact(state["id"], "new").content == b"x\n"
    assert server.artifact(state["id"], "e/new").content == b"y\n"


def test_files_a_container_closed_off_are_extracted_and_removed(server: Server) -> None:
    state = server.run(
        image=NONROOT,
        entrypoint="mkdir -p d/e; echo x > d/e/f; chmod 000 d/e/f d/e d; umask 077; echo y > private",
        extract=["private"],
    )
    assert state["status"] == "succeeded", state
    assert server.artifact(state["id"], "private").content == b"y\n"


def test_an_image_without_a_shell_runs_its_own_entrypoint(server: Server) -> None:
    state = server.run(image=NOSHELL, entrypoint=...)
    assert (state["status"], state["logs"]) == ("succeeded", ["hello from no shell"]), state


def test_an_entrypoint_in_an_image_without_a_shell_fails_in_words(server: Server) -> None:
    state = server.run(image=NOSHELL, entrypoint="true")
    assert state["status"] == "failed"
    assert "sh" in " ".join([state.get("error", ""), *state.get("logs", [])])


def test_the_image_s_own_entrypoint_has_the_input(server: Server) -> None:
    state = server.run(image=ENTRYPOINT, entrypoint=..., input={"a": [1]})
    assert state["status"] == "succeeded", state
    assert state["logs"] in (['{"a": [1]}'], ['{"a":[1]}'])


def test_an_entrypoint_replaces_the_image_s_own(server: Server) -> None:
    state = server.run(image=ENTRYPOINT, entrypoint='echo "$GREETING"')
    assert state["logs"] == ["hi"]


def test_an_image_with_only_a_command_runs_it(server: Server) -> None:
    # The image's command is `sh`, whose program is its input: a JSON string is a command of one word.
    state = server.run(entrypoint=..., input="true")
    assert state["status"] == "succeeded", state


def test_the_command_is_executed_by_sh(server: Server) -> None:
    state = server.run(entrypoint='for i in 1 2; do echo "$i"; done | tail -n 1; echo "$0 $#"')
    assert state["logs"] == ["2", "sh 0"]


def test_an_exit_code_of_the_command(server: Server) -> None:
    for code in (1, 2, 77, 126, 127, 200, 255):
        assert server.run(entrypoint=f"exit {code}")["exitCode"] == code


def test_a_command_killed_by_a_signal(server: Server) -> None:
    state = server.run(entrypoint="kill -9 $$")
    assert (state["status"], state["exitCode"], state["reason"]) == ("failed", 137, "exit")


# --- workdir --------------------------------------------------------------------------------------------


def test_what_the_image_has_in_the_workdir_is_still_there(server: Server) -> None:
    state = server.run(
        image=WORKDIR,
        files={"mine.txt": "mine\n"},
        entrypoint="ls; cat from-image.txt mine.txt",
        extract=["from-image.txt", "mine.txt"],
    )
    assert state["logs"] == ["from-image.txt", "mine.txt", "image", "mine"], state
    assert server.artifact(state["id"], "from-image.txt").content == b"image\n"


def test_a_file_replaces_the_image_s_own(server: Server) -> None:
    state = server.run(image=WORKDIR, files={"from-image.txt": "mine\n"}, entrypoint="cat from-image.txt")
    assert state["logs"] == ["mine"]
    again = server.run(image=WORKDIR, entrypoint="cat from-image.txt")
    assert again["logs"] == ["image"]


@pytest.mark.parametrize(
    "workdir", ["/app", "/srv/deep/er", "/tmp/x", "/tmp", "/root", "/with blank/\u00fc", "/a:b,c=d"]
)
def test_the_command_starts_where_the_files_are(server: Server, workdir: str) -> None:
    state = server.run(
        workdir=workdir,
        files={"in": "in\n", "d/f": "f\n"},
        entrypoint="pwd; cat in d/f; echo out > out",
        extract=["out"],
    )
    assert state["logs"] == [workdir, "in", "f"], state
    assert server.artifact(state["id"], "out").content == b"out\n"


@pytest.mark.parametrize(
    "workdir",
    ["/", "/etc", "/usr", "/bin", "/proc", "/sys", "/dev", "//", "/app/", "/app//x", "/a/../b", "/app/."],
)
def test_an_odd_workdir_is_refused_or_works(server: Server, workdir: str) -> None:
    response = server.request(
        "POST",
        "/run",
        json=run_request(workdir=workdir, files={"light-run-in": "in\n"}, entrypoint="cat light-run-in"),
    )
    assert response.status_code in (200, 400), response.text
    if response.status_code == 200:
        state = response.json()
        assert (state["status"] == "succeeded" and state["logs"] == ["in"]) or (
            state["status"] == "failed" and state["error"]
        ), state
    else:
        assert response.json()["details"][0]["path"] == ["workdir"]
    server.wait_clean()


def test_nothing_of_one_run_is_there_in_the_next(server: Server) -> None:
    server.run(entrypoint="echo x > left; echo x > /tmp/left; echo x > /left", env={"LEFT": "x"})
    state = server.run(entrypoint='ls left /tmp/left /left 2>/dev/null; echo "[$LEFT]"; ps | grep -c sleep')
    assert state["logs"][0] == "[]", state
