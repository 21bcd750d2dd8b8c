"""Servers on loopback: any TCP or TLS server, and a proxy that opens tunnels, as `HTTPS_PROXY` names one."""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class TunnelProxy:
    """Its tunnels end at `behind`, no matter who is asked for. `asked` holds the lines of each CONNECT."""

    url: str
    behind: tuple[str, int]
    asked: list[list[str]] = field(default_factory=list)

    @property
    def places(self) -> list[str]:
        """What was to be connected with, as host:port."""
        return [request[0].split(" ")[1] for request in self.asked]


@contextmanager
def tunnel_proxy(behind: str) -> Iterator[TunnelProxy]:
    """A proxy whose tunnels all end at the URL's host and port."""
    host, _, port = behind.rpartition("/")[2].partition(":")

    def serve(connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        proxy.asked.append(head.decode().strip().split("\r\n"))
        with socket.create_connection(proxy.behind, timeout=10) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            there = threading.Thread(target=_pump, args=(connection, onward))
            there.start()
            _pump(onward, connection)
            there.join()

    with listening(serve) as url:
        proxy = TunnelProxy(url, (host, int(port)))
        yield proxy


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """A TCP server on loopback that treats each connection so, in a thread of its own: its URL."""
    server = socket.create_server(("127.0.0.1", 0))

    def handle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                connection.settimeout(10)
                thread = threading.Thread(target=handle, args=(connection,))
                thread.start()
                handling.callback(thread.join)

    accepting = threading.Thread(target=accept)
    accepting.start()
    with ExitStack() as handling:
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
            accepting.join()


def answering_by_tls(context: ssl.SSLContext, body: bytes) -> Callable[[socket.socket], object]:
    """Reads one request and sends this JSON."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            with tls.makefile("rb") as request:
                request.readline()
                headers = http.client.parse_headers(request)
                request.read(int(headers.get("content-length", "0")))
            tls.sendall(head + body)

    return serve


def self_signed(folder: Path, *names: str) -> ssl.SSLContext:
    """A TLS server's context for 127.0.0.1 and those names that no authority vouches for; `server.pem` of the
    folder holds it, to be trusted by a test that wants to.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    served = [x509.IPAddress(ip_address("127.0.0.1")), *map(x509.DNSName, names)]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(served), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
