"""The page at ``/docs``, in a real browser: it works under its own content security policy, and asks nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import StartServer
from tests.support.browser import Browser, running_browser
from tests.support.nginx import running_nginx
from tests.support.server import TOKEN, Server

AUTHORIZE = ".auth-wrapper .authorize"
INFO = "#operations-Service-getInfo"
STATUS = f"{INFO} .live-responses-table tr.response td.response-col_status"
PREFIX = "/some/prefix"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser whose user knows the token."""
    with running_browser(tmp_path, TOKEN) as found:
        yield found


def operations(server: Server) -> set[str]:
    """The ids that the page gives to the operations of the document."""
    document = server.get("/openapi.json").json()
    return {
        f"operations-{operation['tags'][0]}-{operation['operationId']}"
        for item in document["paths"].values()
        for operation in item.values()
    }


def schemas(server: Server) -> set[str]:
    """The names of the document's schemas."""
    return set(server.get("/openapi.json").json()["components"]["schemas"])


def assert_alone(browser: Browser, url: str) -> None:
    """Nothing was refused by the policy, failed, or was asked of anybody but the server at `url`."""
    assert browser.evaluate("violations") == []
    assert browser.errors == []
    loaded = [each for each in browser.requested if not each.startswith("data:")]
    assert len(loaded) >= 4
    assert [each for each in loaded if urlsplit(each).netloc != urlsplit(url).netloc] == []


def test_it_shows_everything_and_asks_nobody_else(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    browser.open(f"{server.url}/docs")
    browser.until(f"document.querySelector({INFO!r}) !== null")
    shown = browser.evaluate("Array.from(document.querySelectorAll('.opblock'), each => each.id)")
    assert set(shown) == operations(server)
    titles = (
        "Array.from(document.querySelectorAll('.models .json-schema-2020-12__title'), each => each.innerText)"
    )
    assert set(browser.until(titles)) >= schemas(server)
    assert_alone(browser, server.url)


def try_info(browser: Browser) -> int:
    """Send GET /info from the page; the status it shows."""
    browser.click(f"{INFO} .opblock-summary-control")
    browser.click(f"{INFO} .try-out__btn")
    browser.click(f"{INFO} .execute")
    return int(browser.until(f"document.querySelector({STATUS!r})?.innerText"))


def authorize(browser: Browser, token: str) -> None:
    """Type `token` into the page's dialog."""
    browser.click(AUTHORIZE)
    browser.type("#auth-bearer-value", token)
    browser.click(".modal-ux .auth-btn-wrapper button.authorize")
    browser.click(".modal-ux .close-modal")


def test_a_request_is_tried_with_the_token_of_its_dialog(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    browser.open(f"{server.url}/docs")
    authorize(browser, TOKEN)
    assert try_info(browser) == 200
    assert f"{server.url}/info" in browser.requested
    assert browser.evaluate("document.cookie") == ""
    assert TOKEN not in browser.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert_alone(browser, server.url)


def test_it_has_the_token_and_the_look_of_the_console(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    browser.open(f"{server.url}/")
    browser.type("#token", TOKEN)
    browser.press("Enter")
    browser.until("document.querySelector('h1')?.innerText == 'Runs'")
    browser.errors.clear()
    ground = "getComputedStyle(document.body).backgroundColor"
    looks = []
    for scheme in ("light", "dark"):
        browser.look(1280, 900, scheme)
        looks.append(browser.evaluate(ground))
    # Were the browser asked for a password, it would answer with this one.
    browser.password = "wrong"
    browser.click("header nav a[href=docs]")
    browser.until(f"document.querySelector({INFO!r}) !== null")
    for scheme, look in zip(("light", "dark"), looks, strict=True):
        browser.look(1280, 900, scheme)
        assert browser.evaluate(ground) == look
        assert browser.evaluate(
            "getComputedStyle(document.querySelector('.swagger-ui')).backgroundColor"
        ) in (
            look,
            "rgba(0, 0, 0, 0)",
        )
    browser.look(390, 800)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert try_info(browser) == 200
    assert_alone(browser, server.url)
    browser.click("header nav a[href='./#/service']")
    browser.until("document.querySelector('h1')?.innerText == 'Service'")


def test_it_works_below_a_prefix(start_server: StartServer, browser: Browser, tmp_path: Path) -> None:
    server = start_server()
    folder, artifacts = tmp_path / "nginx", server.artifacts_dir
    with running_nginx(folder, upstream=server.port, artifacts=artifacts, prefix=PREFIX) as url:
        browser.open(f"{url}/docs")
        authorize(browser, TOKEN)
        assert try_info(browser) == 200
        assert f"{url}/info" in browser.requested
        assert_alone(browser, url)


def test_scripts_and_styles_of_others_are_refused(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    browser.open(f"{server.url}/docs")
    browser.until(f"document.querySelector({INFO!r}) !== null")
    browser.evaluate(
        """for (const [tag, content] of [["script", "window.ran = true"], ["style", "body { color: red }"]]) {
            const element = document.createElement(tag);
            element.textContent = content;
            document.head.append(element);
        }
        const own = document.createElement("script");
        own.src = "docs/swagger-ui-bundle.js?again";
        document.head.append(own);"""
    )
    assert browser.until("violations.length == 3 && violations.map(each => each.split(' ')[0]).sort()") == [
        "script-src-elem",
        "script-src-elem",
        "style-src-elem",
    ]
    assert browser.evaluate("window.ran") is None
