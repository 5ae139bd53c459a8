"""A headless Chromium, driven over a pipe by the Chrome DevTools Protocol, https://chromedevtools.github.io/devtools-protocol/."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.poll import eventually

COMMAND = "chromium-headless-shell"
ANSWER_SECONDS = 30.0

Json = dict[str, Any]

# What the browser answers where the page went elsewhere before the expression had its value.
_GONE = (
    "Inspected target navigated or closed",
    "Execution context was destroyed.",
    "Cannot find default execution context",
)


class PageGone(AssertionError):
    """The page was left for another while it was asked."""


# What the content security policy refuses, as the page itself is told of it.
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
    event => violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


@dataclass
class Browser:
    """One browser with one page; `requested` are the URLs that the page asked for, `errors` what went wrong in it.

    A server that asks for a password is given `password`. The next request for each path in `failing` fails.
    """

    reads: int
    writes: int
    password: str
    requested: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    _answers: dict[int, Json] = field(default_factory=dict)
    _number: int = 0
    _session: str | None = None
    _target: str = ""
    _pending: bytes = b""

    def open(self, url: str) -> None:
        """Open a page at `url`."""
        self._session = None
        self._target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=self._target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.command(f"{domain}.enable")
        self.command("Fetch.enable", handleAuthRequests=True)
        self.command("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
        while self.command("Page.navigate", url=url).get("errorText") == "net::ERR_NETWORK_CHANGED":
            pass

    def close(self) -> None:
        """Close the page."""
        session, self._session = self._session, None
        self.command("Target.closeTarget", targetId=self._target)
        assert session is not None

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """The value of `expression` once it is true."""

        def look() -> Any:
            # A link that was clicked, or a page that loads itself again: the next page is asked.
            with suppress(PageGone):
                return self.evaluate(expression)

        return eventually(look, f"{expression}, {self.errors}", within=ANSWER_SECONDS)

    def click(self, selector: str) -> None:
        """Click on the element, once it is there."""
        self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector: str, text: str) -> None:
        """Type `text` into the element, once it is there."""
        self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.command("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press and release a key, such as ``j``, ``/`` or ``Enter``, where the focus is."""
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, ord(key[0].upper()))
        event = {"key": key, "windowsVirtualKeyCode": code}
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.command("Input.dispatchKeyEvent", type="keyUp", **event)

    def wheel(self, selector: str, pixels: int) -> None:
        """Turn the wheel over the element, down by `pixels`, once it is there."""
        self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        place = self.evaluate(
            f"(each => (each.scrollIntoView(), [each.getBoundingClientRect().x, each.getBoundingClientRect().y]))"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        x, y = (coordinate + 20 for coordinate in place)
        self.command("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=pixels)

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """Give the page a size in CSS pixels, and the preference for a ``light`` or ``dark`` scheme."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)

    def screenshot(self) -> bytes:
        """The page as PNG, as large as it was made by `look`."""
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])

    def command(self, method: str, **params: Any) -> Json:
        """The result of a command of the protocol."""
        number = self._send(method, params)
        deadline = time.monotonic() + ANSWER_SECONDS
        while number not in self._answers:
            self._receive(deadline)
        answer = self._answers.pop(number)
        if "error" in answer:
            gone = answer["error"].get("message") in _GONE
            raise (PageGone if gone else AssertionError)(f"{method}: {answer['error']}")
        result: Json = answer["result"]
        return result

    def _send(self, method: str, params: Json) -> int:
        self._number += 1
        message: Json = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self.writes, json.dumps(message).encode() + b"\0")
        return self._number

    def _receive(self, deadline: float) -> None:
        assert select.select([self.reads], [], [], max(0, deadline - time.monotonic()))[0], (
            "the browser is silent"
        )
        data = os.read(self.reads, 1 << 16)
        assert data, "the browser has gone"
        *messages, self._pending = (self._pending + data).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._handle(message["method"], message["params"])

    def _handle(self, event: str, params: Json) -> None:
        if event == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        elif event == "Fetch.requestPaused":
            path = urlsplit(params["request"]["url"]).path
            if path in self.failing:
                self.failing.remove(path)
                self._send(
                    "Fetch.failRequest",
                    {"requestId": params["requestId"], "errorReason": "ConnectionAborted"},
                )
            else:
                self._send("Fetch.continueRequest", {"requestId": params["requestId"]})
        elif event == "Fetch.authRequired":
            answer = {"response": "ProvideCredentials", "username": "anybody", "password": self.password}
            self._send(
                "Fetch.continueWithAuth", {"requestId": params["requestId"], "authChallengeResponse": answer}
            )
        elif event == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            text = params["entry"]["text"]
            # Containers that other tests start change the machine's network: the page has to live with that.
            if "ERR_NETWORK_CHANGED" not in text:
                self.errors.append(f"{text} {params['entry'].get('url')}")


@contextmanager
def running_browser(folder: Path, password: str) -> Iterator[Browser]:
    """A browser that keeps everything of its own under `folder`."""
    theirs, writes = os.pipe()
    reads, theirs_too = os.pipe()
    arguments = [
        COMMAND,
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder}",
        "--remote-debugging-pipe",
    ]
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            # It reads commands from descriptor 3 and writes to 4.
            ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{theirs_too}', "bash", *arguments],
            pass_fds=(theirs, theirs_too),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "HOME": str(folder)},
            start_new_session=True,
        )
    os.close(theirs)
    os.close(theirs_too)
    try:
        yield Browser(reads, writes, password)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(reads)
        os.close(writes)
