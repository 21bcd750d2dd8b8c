"""A TCP port on 127.0.0.1 that can go down and come up again, one thread for each connection."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable


class Listener:
    """Accepts connections and hands each to `serve` in a thread; closes it when `serve` returns.

    While it is down the port stays bound without listening: connects are refused, and nobody else
    gets it.
    """

    def __init__(self, port: int, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._socket = _bound(port)
        self._acceptor: threading.Thread | None = None
        self.port: int = self._socket.getsockname()[1]
        self.accepted = 0

    def up(self) -> None:
        """Listens; does nothing while it listens already."""
        if self._acceptor is not None:
            return
        self._socket.listen(128)
        self._waker, woken = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept_until, args=(woken,), daemon=True)
        self._acceptor.start()

    def down(self) -> None:
        """Connects are refused, every connection is closed and its thread has ended."""
        if self._acceptor is None:
            return
        self._stop_accepting()
        self._socket.close()
        self._hang_up()
        self._socket = _bound(self.port)

    def close(self) -> None:
        """Down, and the port is given back."""
        self.down()
        self._socket.close()

    def _stop_accepting(self) -> None:
        if self._acceptor is not None:
            self._waker.close()
            self._acceptor.join()
            self._acceptor = None

    def _accept_until(self, woken: socket.socket) -> None:
        with woken, selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while all(key.fileobj is not woken for key, _ in selector.select()):
                self._accept()

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        thread = threading.Thread(target=self._attend, args=(connection,), daemon=True)
        with self._lock:
            self.accepted += 1
            self._open[connection] = thread
        thread.start()

    def _attend(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):  # the peer may go at any time
                self._serve(connection)
        finally:
            connection.close()
            with self._lock:
                del self._open[connection]

    def _hang_up(self) -> None:
        with self._lock:
            still_open = dict(self._open)
            for connection in still_open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in still_open.values():
            thread.join()


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound
