"""A TCP proxy in front of a server that breaks connections on cue, or lets them fall silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """`cuts` has, for each of the next connections, after how many bytes of answers it breaks; then none does."""

    url: str
    cuts: list[int] = field(default_factory=list)
    connections: int = 0
    answered: int = 0
    _silent: threading.Event = field(default_factory=threading.Event)
    _silences: list[tuple[threading.Event, socket.socket]] = field(default_factory=list)

    def silence(self, *, later: bool = False) -> None:
        """Swallow whatever comes on the connections that there are, and on `later` ones, too: a black hole."""
        for silence, _ in self._silences:
            silence.set()
        if later:
            self._silent.set()

    def heal(self) -> None:
        """Let later connections through again, and end those that are silent, as the kernel does after a while."""
        self._silent.clear()
        for silence, client in self._silences:
            if silence.is_set():
                _close(client)

    def _begin(self, client: socket.socket) -> threading.Event:
        silence = threading.Event()
        self._silences.append((silence, client))
        if self._silent.is_set():
            silence.set()
        return silence


@contextmanager
def breaking_proxy(port: int | str) -> Iterator[Proxy]:
    """A proxy in front of the server on `port` of loopback, or at that unix socket.

    Gone, with all its connections, when this leaves.
    """
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                cut = proxy.cuts.pop(0) if proxy.cuts else None
                silence = proxy._begin(client)
                proxy.connections += 1
                server = _connected(port)
                sockets.extend((client, server))
                works: tuple[Callable[[], None], ...] = (
                    lambda client=client, server=server, silence=silence: _forward(client, server, silence),  # type: ignore[misc]
                    lambda client=client, server=server, cut=cut, silence=silence: _answer(  # type: ignore[misc]
                        proxy, server, client, cut, silence
                    ),
                )
                for work in works:
                    thread = threading.Thread(target=work)
                    threads.append(thread)
                    thread.start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield proxy
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for each in sockets:
                _close(each)
            for thread in threads:
                thread.join()
            for each in sockets:
                each.close()


def _connected(port: int | str) -> socket.socket:
    if isinstance(port, int):
        return socket.create_connection(("127.0.0.1", port))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(port)
    return connection


def _forward(source: socket.socket, sink: socket.socket, silence: threading.Event) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            if not silence.is_set():
                sink.sendall(data)
    if not silence.is_set():
        # As HTTP's clients end one direction.
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _answer(
    proxy: Proxy, source: socket.socket, sink: socket.socket, cut: int | None, silence: threading.Event
) -> None:
    passed = 0
    with suppress(OSError):
        while data := source.recv(65536):
            if silence.is_set():
                continue
            proxy.answered += 1
            if cut is not None:
                data = data[: cut - passed]
            sink.sendall(data)
            passed += len(data)
            if cut is not None and passed >= cut:
                break
    if not silence.is_set():
        _close(sink)
        _close(source)


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
