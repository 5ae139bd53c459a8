"""A TCP proxy in front of a server that breaks connections on cue."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """`cuts` has, for each of the next connections, after how many bytes of answers it breaks; then none does."""

    url: str
    cuts: list[int] = field(default_factory=list)
    connections: int = 0
    answered: int = 0


@contextmanager
def breaking_proxy(port: int) -> Iterator[Proxy]:
    """A proxy in front of the server on `port` of loopback; gone, with all its connections, when this leaves."""
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
                proxy.connections += 1
                server = socket.create_connection(("127.0.0.1", port))
                sockets.extend((client, server))
                for work in ((_forward, client, server), (_answer, proxy, server, client, cut)):
                    thread = threading.Thread(target=work[0], args=work[1:])
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


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    _close(sink)


def _answer(proxy: Proxy, source: socket.socket, sink: socket.socket, cut: int | None) -> None:
    passed = 0
    with suppress(OSError):
        while data := source.recv(65536):
            proxy.answered += 1
            if cut is not None:
                data = data[: cut - passed]
            sink.sendall(data)
            passed += len(data)
            if cut is not None and passed >= cut:
                break
    _close(sink)
    _close(source)


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
