"""Callbacks: when they are tried, what is sent, and that nobody waits for another."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest

from light_run.runs.callbacks import dispatcher as module
from light_run.runs.callbacks import http as post_module
from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.callbacks.dispatcher import CallbackDispatcher
from light_run.runs.callbacks.http import FAILURES, PostDeadline, post, retry_after
from light_run.runs.callbacks.schedule import Schedule, Verdict, judge
from light_run.runs.callbacks.targets import parse
from light_run.runs.model import CallbackState, Delivery, RunRecord, Status
from light_run.runs.presentation import stream_state
from tests.support.poll import eventually
from tests.support.receiver import SIGNATURE, Answer, Received, Receiver, receiving, signature

NOW = datetime(2026, 4, 20, 10, tzinfo=timezone.utc)
SECRET = "secret-of-sixteen"
DAY = 86_400.0
QUICK = Schedule(first=0.01, factor=1.0, jitter=0.0)
STILL = Schedule(first=1000.0, jitter=0.0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


# -- when


@pytest.mark.parametrize(
    ("attempts", "age", "status", "retry_after", "expected"),
    [
        (1, 0, 200, None, Verdict(delivered=True)),
        (1, 0, 204, 60.0, Verdict(delivered=True)),
        (1, 0, 299, None, Verdict(delivered=True)),
        (1, 0, None, None, Verdict(again=2)),
        (1, 0, 199, None, Verdict(again=2)),
        (1, 0, 302, None, Verdict(again=2)),
        (2, 0, 404, None, Verdict(again=6)),
        (3, 0, 500, None, Verdict(again=18)),
        (9, 0, 500, None, Verdict(again=3600)),
        (9000, 0, 500, None, Verdict(again=3600)),
        (1, 0, 410, None, Verdict()),
        (1, 0, 503, 100.0, Verdict(again=100)),
        (3, 0, 503, 1.0, Verdict(again=18)),
        (1, 0, 429, 1e9, Verdict(again=DAY)),
        (1, DAY - 10, 429, 60.0, Verdict(again=10)),
        (1, DAY - 2, 500, None, Verdict(again=2)),
        (1, DAY - 1, 500, None, Verdict()),
    ],
)
def test_what_follows_a_try(
    attempts: int, age: float, status: int | None, retry_after: float | None, expected: Verdict
) -> None:
    verdict = judge(
        Schedule(), attempts=attempts, age=age, status=status, retry_after=retry_after, random=lambda: 0.5
    )
    assert verdict == expected


def test_pauses_vary_by_the_jitter() -> None:
    def pause(random: float) -> float | None:
        schedule = Schedule(first=10, jitter=0.2)
        return judge(schedule, attempts=1, age=0, status=500, retry_after=None, random=lambda: random).again

    assert (pause(0.0), pause(0.5), pause(1.0)) == (8, 10, 12)


def test_a_dead_receiver_is_asked_a_sensible_number_of_times_in_its_day() -> None:
    age, attempts = 0.0, 1
    while (
        pause := judge(
            Schedule(), attempts=attempts, age=age, status=None, retry_after=None, random=lambda: 0.5
        ).again
    ) is not None:
        age, attempts = age + pause, attempts + 1
    assert 20 < attempts < 40
    assert age > DAY - 3600


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Mon, 20 Apr 2026 10:01:00 GMT", 60.0),
        ("Mon, 20 Apr 2026 09:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("9" * 400, float("inf")),
    ],
)
def test_retry_after_is_read(header: str | None, expected: float | None) -> None:
    assert retry_after(header, NOW.timestamp()) == expected


# -- what


@dataclass
class Scene:
    """A courier, what it recorded, and runs to deliver."""

    dispatcher: CallbackDispatcher
    recorded: dict[str, list[CallbackState]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def deliver(
        self, run_id: str, url: str, secret: str | None = None, *, age: float = 0.0, owner: str | None = None
    ) -> None:
        run = RunRecord(id=run_id, status=Status.SUCCEEDED, created_at=NOW, finished_at=NOW, owner=owner)
        self.dispatcher.add(run, Recipient(url, secret), age=age, state=CallbackState())
        self.dispatcher.send(run_id)

    def last(self, run_id: str) -> CallbackState | None:
        return self.recorded.get(run_id, [None])[-1]

    def wait(self, run_id: str, state: Delivery, attempts: int = 1) -> CallbackState:
        def look() -> CallbackState | None:
            last = self.last(run_id)
            return last if last and (last.state, last.attempts) == (state, attempts) else None

        found = eventually(look, f"{run_id} is {state} after {attempts} tries", within=10)
        assert found
        return found


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def scene(
    stack: ExitStack, tmp_path: Path, schedule: Schedule = QUICK, *, start: bool = True, timeout: float = 10.0
) -> Scene:
    made: Scene
    dispatcher = CallbackDispatcher(
        content=lambda run: stream_state(run, [], callback=False),
        record=lambda run_id, state: made.recorded.setdefault(run_id, []).append(state),
        dropped=lambda run_id: made.dropped.append(run_id),  # noqa: PLW0108 - it is not there yet
        schedule=schedule,
        spool=tmp_path,
        timeout=timeout,
    )
    made = Scene(dispatcher)
    stack.callback(dispatcher.close)
    if start:
        dispatcher.start()
    return made


def test_the_final_state_arrives_once_and_signed(
    scenes: ExitStack, tmp_path: Path, receiver: Receiver
) -> None:
    made = scene(scenes, tmp_path)
    made.deliver("r", f"{receiver.url}/hook?a=b", SECRET)
    assert made.wait("r", Delivery.DELIVERED) == CallbackState(Delivery.DELIVERED, 1, 204, None)
    (request,) = receiver.received
    assert (request.method, request.path) == ("POST", "/hook?a=b")
    assert request.json()["id"] == "r"
    assert request.header("content-type") == "application/json"
    assert request.header(SIGNATURE) == signature(SECRET, request.body)
    assert request.header("webhook-id") == "r"
    assert abs(int(request.header("webhook-timestamp") or 0) - time.time()) < 60
    assert request.header("webhook-signature") == standard(SECRET.encode(), request)


def standard(key: bytes, request: Received) -> str:
    """The signature as Standard Webhooks has it."""
    signed = f"r.{request.header('webhook-timestamp')}.".encode() + request.body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("whsec_" + base64.b64encode(b"sixteen byte key").decode(), b"sixteen byte key"),
        ("whsec_not base64!", b"whsec_not base64!"),
    ],
)
def test_keys_are_read_as_standard_webhooks_writes_them(
    scenes: ExitStack, tmp_path: Path, receiver: Receiver, secret: str, key: bytes
) -> None:
    scene(scenes, tmp_path).deliver("r", receiver.url, secret)
    (request,) = receiver.wait()
    assert request.header("webhook-signature") == standard(key, request)
    assert request.header(SIGNATURE) == signature(secret, request.body)


def test_without_a_secret_nothing_is_signed(scenes: ExitStack, tmp_path: Path, receiver: Receiver) -> None:
    scene(scenes, tmp_path).deliver("r", receiver.url)
    (request,) = receiver.wait()
    assert request.header(SIGNATURE) is None
    assert request.header("webhook-signature") is None
    assert request.header("webhook-id") == "r"


def test_a_large_body_goes_by_way_of_the_disk(
    scenes: ExitStack, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", 10)
    made = scene(scenes, tmp_path)
    made.deliver("r", receiver.url, SECRET)
    (request,) = receiver.wait()
    assert request.header(SIGNATURE) == signature(SECRET, request.body)
    assert json.loads(request.body)["id"] == "r"
    made.wait("r", Delivery.DELIVERED)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_tried_again_with_the_same_body(
    scenes: ExitStack, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = lambda request, number: Answer((500, 302, 204)[number], {"Location": "/elsewhere"})
    made = scene(scenes, tmp_path)
    made.deliver("r", f"{receiver.url}/hook")
    made.wait("r", Delivery.DELIVERED, attempts=3)
    assert [state.last_status for state in made.recorded["r"]] == [500, 302, 204]
    assert made.recorded["r"][0].next_attempt_at is not None
    assert {request.path for request in receiver.received} == {"/hook"}
    assert len({request.body for request in receiver.received}) == 1


def test_a_receiver_that_is_gone_is_not_asked_again(
    scenes: ExitStack, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = lambda request, number: Answer(410)
    made = scene(scenes, tmp_path)
    made.deliver("r", receiver.url)
    assert made.wait("r", Delivery.FAILED).last_status == 410
    assert len(receiver.received) == 1


def test_a_callback_is_given_up_when_its_time_is_over(
    scenes: ExitStack, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = lambda request, number: Answer(500)
    made = scene(scenes, tmp_path)
    made.deliver("r", receiver.url, age=DAY)
    assert made.wait("r", Delivery.FAILED).attempts == 1


def test_nobody_there_is_a_try_without_a_status(scenes: ExitStack, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    made = scene(scenes, tmp_path, STILL)
    made.deliver("r", f"http://127.0.0.1:{port}/")
    assert made.wait("r", Delivery.PENDING).last_status is None


def test_an_address_that_never_gets_one_is_not_connected_to(scenes: ExitStack, tmp_path: Path) -> None:
    made = scene(scenes, tmp_path, STILL)
    made.deliver("r", "http://169.254.169.254/latest/meta-data")
    assert made.wait("r", Delivery.PENDING).last_status is None
    made.deliver("x", "gopher://example.com")
    assert made.last("x") == CallbackState(Delivery.FAILED)


# -- one try


class Odd:
    """A server that writes its answer a byte at a time, or reads nothing."""

    def __init__(self, drip: bytes = b"") -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.stop = threading.Event()
        self.drip = drip
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self) -> Odd:  # noqa: PYI034
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.listener.close()
        self.thread.join()

    def serve(self) -> None:
        self.listener.settimeout(10)
        peer, _ = self.listener.accept()
        with peer:
            while not self.stop.wait(0.02) and self.drip:
                try:
                    peer.sendall(self.drip[:1])
                except OSError:
                    return
                self.drip = self.drip[1:] or self.drip
            self.stop.wait(10)


@pytest.mark.parametrize(
    ("drip", "size"),
    [(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, 10), (b"", 10), (b"", 50_000_000)],
    ids=["answers a byte at a time", "never answers", "never reads"],
)
def test_a_try_takes_no_longer_than_its_time(drip: bytes, size: int, tmp_path: Path) -> None:
    with Odd(drip) as odd, (tmp_path / "body").open("w+b") as body:
        body.truncate(size)
        begun = time.monotonic()
        with pytest.raises(FAILURES):
            post(parse(odd.url), ["127.0.0.1"], {"Content-Length": str(size)}, body, PostDeadline(0.3))
        assert 0.2 < time.monotonic() - begun < 3


def test_a_dead_address_leaves_time_for_the_next(receiver: Receiver, tmp_path: Path) -> None:
    # A listener whose queue is full does not answer at all.
    with socket.socket() as full, ExitStack() as clients:
        full.bind(("127.0.0.2", parse(receiver.url).port))
        full.listen(0)
        for _ in range(4):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        with (tmp_path / "body").open("w+b") as body:
            answer = post(
                parse(receiver.url),
                ["127.0.0.2", "127.0.0.1"],
                {"Content-Length": "0"},
                body,
                PostDeadline(2),
            )
    assert answer.status == 204


def test_the_checked_address_is_connected_to_whatever_the_name_says_now(
    receiver: Receiver, tmp_path: Path
) -> None:
    target = parse(f"http://no-such-name.invalid:{parse(receiver.url).port}/")
    with (tmp_path / "body").open("w+b") as body:
        assert post(target, ["127.0.0.1"], {"Content-Length": "0"}, body, PostDeadline(5)).status == 204
    assert receiver.received[0].header("host") == f"no-such-name.invalid:{target.port}"


@contextmanager
def receiving_tls(context: ssl.SSLContext) -> Iterator[Receiver]:
    """A receiver behind TLS: what it decrypts goes to a plain one."""
    with receiving() as plain, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            try:
                peer, _ = listener.accept()
                with (
                    peer,
                    context.wrap_socket(peer, server_side=True) as secured,
                    socket.create_connection(("127.0.0.1", parse(plain.url).port)) as onward,
                ):
                    onward.sendall(secured.recv(1 << 16))
                    secured.sendall(onward.recv(1 << 16))
            except OSError:
                pass  # a client that does not trust us hangs up

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Receiver(f"https://127.0.0.1:{listener.getsockname()[1]}", plain.received)
        finally:
            thread.join()


@pytest.fixture
def certified(tmp_path: Path) -> Path:
    """A certificate for localhost, and its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    file = tmp_path / "certificate"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(
        [openssl, "req", "-x509", "-nodes", "-keyout", file, "-out", tmp_path / "public", *curve, *subject],
        check=True,
        capture_output=True,
    )
    file.write_bytes(file.read_bytes() + (tmp_path / "public").read_bytes())
    return file


@pytest.mark.parametrize(("host", "trusted"), [("localhost", True), ("localhost", False), ("other", True)])
def test_tls_is_spoken_and_verified(
    host: str, trusted: bool, certified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ssl.create_default_context(cafile=certified if trusted else None)
    monkeypatch.setattr(post_module, "_tls", lambda: client)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certified)
    with receiving_tls(server) as receiver, (tmp_path / "body").open("w+b") as body:
        target = parse(f"https://{host}:{parse(receiver.url).port}/")
        if host == "localhost" and trusted:
            assert post(target, ["127.0.0.1"], {"Content-Length": "0"}, body, PostDeadline(5)).status == 204
            assert receiver.received[0].header("host") == f"localhost:{target.port}"
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                post(target, ["127.0.0.1"], {"Content-Length": "0"}, body, PostDeadline(5))


def test_certificates_are_always_verified() -> None:
    context = post_module._tls()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


# -- who waits for whom


def test_a_slow_receiver_delays_nobody_else(scenes: ExitStack, tmp_path: Path, receiver: Receiver) -> None:
    made = scene(scenes, tmp_path)
    with receiving() as slow:
        release = threading.Event()

        def hang(request: Received, number: int) -> Answer:
            release.wait(30)
            return Answer()

        slow.answer = hang
        for number in range(20):
            made.deliver(f"slow{number}", slow.url)
        for number in range(20):
            made.deliver(f"quick{number}", receiver.url)
        receiver.wait(20, within=10)
        assert len(slow.received) <= module.PER_RECEIVER
        release.set()
        slow.wait(20)
        for number in range(20):
            made.wait(f"slow{number}", Delivery.DELIVERED)


def test_known_slow_receivers_share_half_of_the_threads(
    scenes: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "THREADS", 4)
    gate = threading.Event()
    monkeypatch.setattr(CallbackDispatcher, "_attempt", lambda *_: gate.wait(30) and post_module.NO_ANSWER)
    made = scene(scenes, tmp_path, STILL, start=False)
    made.dispatcher._slow = {f"http://slow{number}:80" for number in range(8)}
    for number in range(8):
        made.deliver(f"s{number}", f"http://slow{number}/")
    assert made.dispatcher.step(time.monotonic()) == 2
    made.deliver("q0", "http://quick/")
    made.deliver("q1", "http://quick/")
    assert made.dispatcher.step(time.monotonic()) == 2
    gate.set()


def test_slow_receivers_of_one_token_do_not_delay_the_callbacks_of_another(
    scenes: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(CallbackDispatcher, "_attempt", lambda *_: gate.wait(30) and post_module.NO_ANSWER)
    made = scene(scenes, tmp_path, STILL, start=False)
    # Nobody knows yet that they are slow.
    for number in range(128):
        made.deliver(f"a{number}", f"http://tarpit{number}/", owner="alice")
    assert made.dispatcher.step(time.monotonic()) < module.THREADS
    made.deliver("b", "http://bob/", owner="bob")
    assert made.dispatcher.step(time.monotonic()) == 1
    gate.set()


def test_closing_cuts_off_what_is_being_sent_and_keeps_it_pending(tmp_path: Path, receiver: Receiver) -> None:
    release = threading.Event()

    def hang(request: Received, number: int) -> Answer:
        release.wait(30)
        return Answer()

    receiver.answer = hang
    with ExitStack() as stack:
        made = scene(stack, tmp_path, timeout=30)
        made.deliver("r", receiver.url)
        receiver.wait()
        begun = time.monotonic()
        made.dispatcher.close()
        assert time.monotonic() - begun < 3
        assert made.recorded == {}
        release.set()


def test_a_forgotten_run_still_gets_its_callback(
    scenes: ExitStack, tmp_path: Path, receiver: Receiver
) -> None:
    forgotten = threading.Event()

    def answer(request: Received, number: int) -> Answer:
        # The second try goes on until its run is forgotten.
        return Answer(503) if number == 0 or not forgotten.wait(8) else Answer()

    receiver.answer = answer
    made = scene(scenes, tmp_path, Schedule(first=0.2, factor=1.0, jitter=0.0))
    made.deliver("r", receiver.url)
    made.wait("r", Delivery.PENDING)
    assert made.dispatcher.forget("r")
    forgotten.set()
    assert made.dropped == []
    made.wait("r", Delivery.DELIVERED, attempts=2)
    eventually(lambda: made.dropped == ["r"], "what was kept for it is dropped")
    assert not made.dispatcher.forget("r")


@pytest.mark.parametrize("status", [200, 410])
def test_what_is_asked_for_while_a_try_is_under_way_follows_it(
    scenes: ExitStack, tmp_path: Path, receiver: Receiver, status: int
) -> None:
    asked = threading.Event()

    def answer(request: Received, number: int) -> Answer:
        return Answer(status) if number == 0 and asked.wait(8) else Answer()

    receiver.answer = answer
    made = scene(scenes, tmp_path)
    made.deliver("r", receiver.url)
    receiver.wait(1)
    made.deliver("r", receiver.url)
    asked.set()
    made.wait("r", Delivery.DELIVERED, attempts=2)
    assert [each.state for each in made.recorded["r"]][1:] == [Delivery.PENDING, Delivery.DELIVERED]
    assert made.dispatcher.pending == 0


def test_of_forgotten_runs_only_so_many_wait(
    scenes: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_FORGOTTEN", 2)
    made = scene(scenes, tmp_path, start=False)
    for name in "abcd":
        made.deliver(name, "http://127.0.0.1:1/")
    assert all(made.dispatcher.forget(name) for name in "abc")
    assert made.dropped == ["a"]
    assert made.dispatcher.pending == 3
    assert made.dispatcher.step(time.monotonic() + 1) > 0


def test_where_there_is_no_thread_a_callback_waits(
    scenes: ExitStack, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scene(scenes, tmp_path, start=False)
    made.deliver("r", receiver.url)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        made.dispatcher.step(time.monotonic())
    made.dispatcher.step(time.monotonic() + module.NO_THREAD + 1)
    made.wait("r", Delivery.DELIVERED)


def test_a_step_sends_what_is_due_and_nothing_else(
    scenes: ExitStack, tmp_path: Path, receiver: Receiver
) -> None:
    made = scene(scenes, tmp_path, start=False)
    made.deliver("r", receiver.url)
    made.dispatcher.send("r", after=100)
    now = time.monotonic()
    assert made.dispatcher.step(now + 99) == 0
    assert made.dispatcher.step(now + 101) == 1
    made.wait("r", Delivery.DELIVERED)


def test_a_body_that_cannot_be_made_is_a_failed_try(tmp_path: Path, receiver: Receiver) -> None:
    def broken(run: RunRecord) -> Iterator[bytes]:
        raise ValueError("no body")

    recorded: list[CallbackState] = []
    dispatcher = CallbackDispatcher(
        content=broken,
        record=lambda run_id, state: recorded.append(state),
        dropped=lambda run_id: None,
        schedule=STILL,
        spool=tmp_path,
    )
    dispatcher.start()
    try:
        Scene(dispatcher).deliver("r", receiver.url)
        eventually(lambda: recorded, "the try is recorded", within=10)
    finally:
        dispatcher.close()
    assert (recorded[0].state, recorded[0].last_status) == (Delivery.PENDING, None)
