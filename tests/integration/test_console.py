"""The console at ``/``, in a real browser on a real server: what a person does there, by mouse and by keyboard."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from light_run.api import console as pages
from tests.integration.conftest import StartServer
from tests.support.browser import Browser, running_browser
from tests.support.engine import BUSYBOX, containers_of, touch_in
from tests.support.poll import eventually
from tests.support.server import REPOSITORY, TOKEN, Server

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOSTILE = "\x1b[31m<script>window.ran=1</script>\u202eevil<img src=x onerror=window.ran=1>"
AXE = (REPOSITORY / "tests/support/axe-core/axe.min.js").read_text()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser of all tests here; each opens a page of its own."""
    with running_browser(tmp_path_factory.mktemp("browser"), "") as found:
        yield found


@pytest.fixture
def console(server: Server, browser: Browser) -> Iterator[Browser]:
    """The browser, signed in at the console of the shared server."""
    browser.requested.clear()
    browser.open(f"{server.url}/")
    browser.look(1280, 900)
    sign_in(browser, TOKEN)
    browser.errors.clear()
    browser.until("document.querySelector('h1')?.innerText == 'Runs'")
    yield browser
    assert_alone(browser, server.url)
    browser.close()


def sign_in(browser: Browser, token: str) -> None:
    """Type `token` into the form."""
    browser.type("#token", token)
    browser.press("Enter")


def text(selector: str) -> str:
    """An expression: the text of the first element that `selector` finds, empty where there is none."""
    return f"(document.querySelector({json.dumps(selector)})?.innerText ?? '')"


def click_button(browser: Browser, label: str, inside: str = "main") -> None:
    """Click on the button below `inside` whose text begins with `label`, once it is there."""
    button = (
        f"[...document.querySelectorAll({json.dumps(inside + ' button')})]"
        f".find(each => each.innerText.startsWith({json.dumps(label)}) && !each.disabled)"
    )
    browser.until(f"{button} !== undefined && ({button}.click(), true)")


def choose(browser: Browser, selector: str, value: str) -> None:
    """Choose `value` of the list that `selector` finds."""
    browser.evaluate(
        f"(list => {{ list.value = {json.dumps(value)}; list.dispatchEvent(new Event('change')); }})"
        f"(document.querySelector({json.dumps(selector)}))"
    )


def downloaded(browser: Browser, path: Path) -> None:
    """Wait until the browser has the file; its requests go on only while it is asked something."""
    eventually(lambda: browser.evaluate("true") and path.is_file(), f"{path.name} is there")


def assert_alone(browser: Browser, url: str) -> None:
    """Nothing was refused by the policy or failed, nobody else was asked, and no hostile text has run."""
    assert browser.evaluate("violations") == []
    assert browser.errors == []
    assert browser.evaluate("window.ran") is None
    loaded = [each for each in browser.requested if not each.startswith(("data:", "blob:"))]
    assert [each for each in loaded if urlsplit(each).netloc != urlsplit(url).netloc] == []


def assert_accessible(browser: Browser, width: int = 1280) -> None:
    """axe-core finds nothing, light and dark, and nothing is wider than the page."""
    browser.evaluate(f"{AXE}; undefined")
    for scheme in ("light", "dark"):
        browser.look(width, 900, scheme)
        found = browser.evaluate(
            """axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
            .then(({violations}) => violations.map(({id, nodes}) => [id, ...nodes.map(each => each.html)]))"""
        )
        assert found == [], (scheme, width)
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


def test_json_clients_get_what_they_got(server: Server) -> None:
    for headers in ({}, {"Accept": "application/json"}, {"Accept": "*/*"}):
        unknown = server.get("/unknown", headers=headers)
        root = server.get("/", headers=headers)
        assert (root.status_code, root.content) == (404, unknown.content)
        assert server.get("/", headers=headers, token="").status_code == 401
    assert server.get("/", headers=HTML, token="").status_code == 200
    # A link on another site leads to the page, and to nothing else.
    linked = {**HTML, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.get("/", headers=linked, token="").status_code == 200
    assert server.get("/runs", headers=linked).status_code == 403


def test_it_is_turned_off(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_CONSOLE": "false"})
    assert server.request("GET", "/", headers=HTML, token="").status_code == 401
    assert server.get("/", headers=HTML).json() == {"error": "not_found"}
    assert server.get("/console/app.js").status_code == 404


def test_a_wrong_and_a_right_token(server: Server, browser: Browser) -> None:
    browser.open(f"{server.url}/")
    sign_in(browser, "wrong")
    browser.until(f"{text('.error')} == 'The server does not know this token.'")
    browser.look(390, 800)
    assert_accessible(browser, 390)
    browser.evaluate("document.querySelector('#token').value = ''")
    sign_in(browser, TOKEN)
    browser.until(f"{text('h1')} == 'Runs'")
    assert browser.evaluate("[document.cookie, localStorage.length]") == ["", 0]
    browser.evaluate("window.before = true")
    browser.command("Page.reload")
    browser.until(f"window.before === undefined && {text('h1')} == 'Runs'")
    browser.click("header button")
    browser.until("document.querySelector('#token') !== null")
    assert browser.evaluate("sessionStorage.length") == 0
    browser.errors.clear()
    browser.close()


def test_a_request_that_the_browser_gave_up_is_made_again(server: Server, browser: Browser) -> None:
    run = server.run(entrypoint="echo there")
    browser.failing = {"/console/runs.js", "/info", "/console/run.js"}
    browser.open(f"{server.url}/")
    sign_in(browser, TOKEN)
    browser.until(f"{text('h1')} == 'Runs'")
    browser.evaluate(f"location.hash = '#/runs/{run['id']}'")
    browser.until(drawn("there", ".line bdi"))
    assert browser.failing == set()
    browser.errors.clear()
    browser.close()


def test_runs_are_listed_live_filtered_and_gone_through_by_keys(server: Server, console: Browser) -> None:
    server.run(entrypoint=f"exit 3 # {HOSTILE}")
    # Of the newest run; others of this server may have ended so before.
    console.until(
        f"{text('td.command')}.includes('<script>') && {text('table.runs')}.includes('exit code 3')"
    )
    shown = console.evaluate(text("td.command"))
    assert "<script>" in shown
    assert "⟨202E⟩" in shown
    assert_accessible(console)
    assert_accessible(console, 390)
    console.look(1280, 900)
    console.press("/")
    console.command("Input.insertText", text="exit 3 #")
    console.until("location.hash.includes('text=exit')")
    console.until("document.querySelectorAll('a.row').length >= 1")
    console.press("Escape")
    console.press("j")
    assert console.evaluate("document.activeElement.className") == "row"
    console.evaluate("location.hash = '#/runs?status=cancelled&text=nothing-like-it'")
    console.until(f"{text('.empty')}.includes('No run matches')")
    console.evaluate("location.hash = '#/runs?before=unknown'")
    console.until(f"{text('.error')}.includes('before must be the id of an existing run')")
    console.errors.clear()


# As many lines as the page keeps.
LIVE = """printf '%s\\n' "$HOSTILE"; echo oops >&2; seq 3 100000; sleep 300"""
FILES = {
    "out/table.csv": 'name,said\n<b>Ada</b>,"a ""quoted"", line"\n',
    "out/picture.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="parent.ran=1"/>',
    "out/<img src=x onerror='window.ran=1'>.txt": HOSTILE,
    "out/page.html": "<script>window.ran=1</script>",
}


def drawn(top: str, selector: str) -> str:
    """An expression: whether a line that `selector` finds has a text that begins with `top`."""
    lines = f"[...document.querySelectorAll({json.dumps(selector)})]"
    return f"{lines}.some(each => each.innerText.startsWith({json.dumps(top)}))"


def test_a_run_is_followed_searched_paused_and_cancelled(server: Server, console: Browser) -> None:
    run = server.start(entrypoint=LIVE, env={"HOSTILE": HOSTILE})
    console.evaluate(f"location.hash = '#/runs/{run}'")
    console.until(drawn("100000", ".line bdi"))
    assert console.evaluate("document.querySelectorAll('.line').length") < 200
    console.wheel(".output", -200)
    console.until("document.querySelector('input[type=checkbox]').checked === false")
    top = drawn("<script>window.ran=1</script>⟨202E⟩evil", ".line.stdout bdi .ansi-red")
    console.until(f"(document.querySelector('.output').scrollTop = 0, {top})")
    choose(console, "section select", "stderr")
    console.until(drawn("oops", ".line.stderr bdi"))
    choose(console, "section select", "both")
    console.type("input[name=search]", "99999")
    console.press("Enter")
    console.until(drawn("99999", ".line.marked bdi"))
    console.look(1280, 900)
    click_button(console, "Pause")
    console.until(f"{text('h1 .status')} == 'paused'")
    assert_accessible(console)
    assert_accessible(console, 390)
    console.look(1280, 900)
    click_button(console, "Resume")
    console.until(f"{text('h1 .status')} == 'running'")
    click_button(console, "Cancel")
    console.until(f"{text('.outcome')}.startsWith('cancelled')")
    click_button(console, "Delete")
    click_button(console, "Yes, delete")
    console.until(f"{text('h1')} == 'Runs'")
    assert server.get(f"/runs/{run}").status_code == 404


def test_artifacts_are_previewed_and_downloaded(server: Server, console: Browser, tmp_path: Path) -> None:
    run = server.run(files=FILES, entrypoint="true", extract=["out", "nothing"])
    console.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    console.evaluate(f"location.hash = '#/runs/{run['id']}'")
    click_button(console, "table.csv")
    console.until("document.querySelectorAll('.preview td').length == 4")
    cells = console.evaluate("[...document.querySelectorAll('.preview td')].map(each => each.innerText)")
    assert cells == ["name", "said", "<b>Ada</b>", 'a "quoted", line']
    assert_accessible(console, 390)
    console.look(1280, 900)
    click_button(console, "picture.svg")
    console.until("document.querySelector('.preview img')?.naturalWidth == 9")
    click_button(console, "<img src=x")
    console.until(f"{text('.preview pre')}.includes('<script>window.ran=1</script>⟨202E⟩evil')")
    click_button(console, "page.html")
    console.until(f"{text('.preview pre')} == '<script>window.ran=1</script>'")
    click_button(console, "Download", ".preview")
    downloaded(console, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == FILES["out/page.html"]
    click_button(console, "as zip")
    downloaded(console, tmp_path / f"{run['id']}.zip")
    assert "no such file in the container" in console.evaluate(text(".error"))


def test_a_restart_is_told_and_the_output_goes_on(start_server: StartServer, browser: Browser) -> None:
    first = start_server()
    browser.open(f"{first.url}/")
    sign_in(browser, TOKEN)
    browser.until(f"{text('h1')} == 'Runs'")
    run = first.start(
        entrypoint="echo begun; until [ -e /tmp/go ]; do sleep 0.1; done; echo gone on; sleep 300"
    )
    browser.evaluate(f"location.hash = '#/runs/{run}'")
    browser.until(drawn("begun", ".line bdi"))
    first.kill()
    browser.until(f"{text('.away')}.includes('does not answer')")
    again = start_server(port=first.port)
    browser.until("document.querySelector('.away') === null")
    (container,) = [
        each for each in containers_of(again.server_id) if each["Labels"].get("light-run.run") == run
    ]
    touch_in(container["Id"], "/tmp/go")
    browser.until(drawn("gone on", ".line bdi"))
    again.cancel_all()
    browser.until(f"{text('.outcome')}.startsWith('cancelled')")
    browser.errors.clear()
    browser.close()


def test_the_page_weighs_little() -> None:
    total = sum(len(gzip.compress(path.read_bytes())) for path in pages.FILES.values())
    assert total < 400_000


def fill(browser: Browser, selector: str, content: str) -> None:
    """Put `content` into a field, in place of what is there."""
    browser.until(f"document.querySelector({json.dumps(selector)}) !== null")
    browser.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
    browser.type(selector, content)


def shown_for(browser: Browser, name: str) -> str:
    """The request of the form as it is shown for curl, the command line or Python."""
    click_button(browser, name, ".same")
    browser.until(
        f"document.querySelector('.same button[aria-pressed=true]').innerText == {json.dumps(name)}"
    )
    found: str = browser.evaluate(text(".same pre"))
    return found


def executed(command: str) -> str:
    """What the shell prints that executes `command` with the token of the server."""
    environ = {**os.environ, "LIGHT_RUN_TOKEN": TOKEN}
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, env=environ
    ).stdout


def test_a_run_is_started_by_the_form(server: Server, console: Browser) -> None:
    console.evaluate("location.hash = '#/new'")
    fill(console, "#field-image", BUSYBOX)
    fill(console, "#field-env", "NAME=it's")
    fill(console, "#field-extract", "../up")
    click_button(console, "New file")
    fill(console, ".file .name input", "script.sh")
    console.type(".CodeMirror textarea", 'echo "hello, $NAME" > out/note.txt; cat out/note.txt')
    fill(console, "#field-entrypoint", "mkdir out; sh script.sh")
    console.until(f"{text('.same pre')}.includes('script.sh')")
    assert_accessible(console)
    assert_accessible(console, 390)
    console.look(1280, 900)
    click_button(console, "Run")
    console.until("document.querySelector('#field-extract').getAttribute('aria-invalid') == 'true'")
    fill(console, "#field-extract", "out")
    same = {name: shown_for(console, name) for name in ("curl", "Python", "Command line")}
    click_button(console, "Run", "form")
    console.until(drawn("hello, it's", ".line bdi"))
    console.until("document.querySelector('.tree button') !== null")
    python = same["Python"]
    for shown in (same["curl"], f"{sys.executable} - <<'END'\n{python}\nEND"):
        assert "hello, it's" in executed(shown)
    assert "light-run run" in same["Command line"]
    console.evaluate("document.querySelector('a.button').click()")
    console.until("document.querySelector('#field-entrypoint')?.value == 'mkdir out; sh script.sh'")
    assert console.evaluate("document.querySelector('.file .name input').value") == "script.sh"
    console.errors.clear()


def test_a_run_without_files_and_again_after_a_reload(server: Server, console: Browser) -> None:
    run = server.run(entrypoint="echo again $NAME", env={"NAME": "secret"})
    console.evaluate(f"location.hash = '#/new?again={run['id']}'")
    console.until(f"{text('.remedy')}.includes('the values of the environment')")
    same = console.evaluate(text(".same pre"))
    assert console.evaluate("document.querySelector('#field-env').value") == "NAME="
    click_button(console, "Run", "form")
    console.until(drawn("again", ".line bdi"))
    console.until(f"{text('.outcome')}.startsWith('exit code 0')")
    assert '"logs": ["again"]' in executed(same)


def test_the_service_is_shown(server: Server, console: Browser) -> None:
    server.run(entrypoint="true")
    console.evaluate("location.hash = '#/service'")
    console.until("document.querySelector('.plot canvas') !== null")
    assert int(console.evaluate(text("#hour ~ p .succeeded")).split()[0]) >= 1
    assert console.evaluate("document.querySelectorAll('.gauge meter').length") == 5
    # What light-run doctor says of the server, the good as well.
    shown = console.evaluate("[...document.querySelectorAll('.findings li')].map(each => each.textContent)")
    found = [(each["level"], each["check"], each["fix"]) for each in server.get("/info").json()["findings"]]
    for level, check, fix in found:
        assert any(each.startswith(f"{level} {check}: ") and each.endswith(fix) for each in shown), (
            level,
            check,
            shown,
        )
    assert len(shown) == len(found)
    assert console.evaluate(f"{text('.facts')}.includes('Docker')")
    assert_accessible(console)
    assert_accessible(console, 390)
