"""A port on 127.0.0.1, or one line that says why not."""

import errno
import socket

from local.errors import CommandError


def bound(port: int) -> socket.socket:
    """A socket that is bound there; 0: any free one. Raises CommandError."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise refused(port, error) from None
    return listening


def refused(port: int, error: OSError) -> CommandError:
    """Why the port could not be taken, and what would be right."""
    if error.errno == errno.EADDRINUSE:
        return CommandError(f"port {port} is in use: end what listens there, or choose another with --port")
    return CommandError(f"port {port} could not be opened: {error.strerror}; choose another with --port")
