"""What client and server agree on before any message: where the server is, and how a caller identifies itself."""

from __future__ import annotations

METADATA_KEY = "authorization"
_MOST_PORT = 65535


def host_of(address: str, *, least_port: int = 1) -> str | None:
    """Return the host of an address, or None if the address is a Unix socket.

    Args:
        address: ``host:port`` or ``unix:path``.
        least_port: the lowest valid port; 0 where 0 asks for any free port.

    Raises:
        ValueError: the address has neither form.

    >>> host_of("127.0.0.1:4000"), host_of("unix:/run/pexec.sock")
    ('127.0.0.1', None)
    """
    if address.startswith("unix:"):
        return None
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and least_port <= int(port) <= _MOST_PORT):
        raise ValueError(f"an address is host:port or unix:path; got {address!r}")
    return host


def bearer(token: str) -> tuple[str, str]:
    """Return the metadata that carries a token.

    Raises:
        ValueError: the token is empty, or contains characters that metadata cannot carry.

    >>> bearer("s3cret")
    ('authorization', 'Bearer s3cret')
    """
    if not (token and token.isascii() and token.isprintable()):
        raise ValueError("a token is text of one line, in ASCII")
    return METADATA_KEY, f"Bearer {token}"
