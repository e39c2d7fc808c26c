"""Plugins as a service: a gRPC server over a pool, and its client.

Needs the extra: ``pip install 'parallel_exec[service]'``.
"""

import os
from typing import TYPE_CHECKING, Any

# gRPC's C core also prints to stderr what every call raises anyway; a user who wants that sets the variable.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

if TYPE_CHECKING:
    from parallel_exec.service._client import Client
    from parallel_exec.service._protocol.statuses import ServiceError
    from parallel_exec.service._protocol.values import Deployed, Result, ServiceStats
    from parallel_exec.service._server.server import Server, ServerOptions

_HOMES = {
    "Client": "_client",
    "Deployed": "_protocol.values",
    "Result": "_protocol.values",
    "Server": "_server.server",
    "ServerOptions": "_server.server",
    "ServiceError": "_protocol.statuses",
    "ServiceStats": "_protocol.values",
}

__all__ = ["Client", "Deployed", "Result", "Server", "ServerOptions", "ServiceError", "ServiceStats"]


def __getattr__(name: str) -> Any:
    # On first use, so that a missing extra is named, and a client does not import the server.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("grpc", "grpc_health", "grpc_reflection", "google"):
            raise
        raise ImportError(f"the service needs {error.name}: pip install 'parallel_exec[service]'") from None
