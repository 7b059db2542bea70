"""``[metrics]`` of the configuration: where ``auditns metrics --serve`` listens."""

import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from auditns_connector.config.readers import Reader
from auditns_connector.vocabulary.values import Json

ALLOWED: Final = "an absolute path of at most 107 bytes, 127.0.0.1:PORT or [::1]:PORT"
_LOOPBACK: Final = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "[::1]": "::1"}


class Endpoint(NamedTuple):
    """A unix socket at ``path``, or else a port of the loopback address ``host``."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")


def endpoint(value: Json) -> Endpoint:
    """Read one; raises ValueError with :data:`ALLOWED`. Other addresses than loopback are none: who scrapes from afar
    goes through something that checks who asks."""
    if isinstance(value, str) and value.startswith("/") and value.isprintable() and ".." not in value.split("/"):
        if len(os.fsencode(value)) <= 107 and not value.endswith("/"):
            return Endpoint(path=value)
    elif isinstance(value, str):
        host, _, port = value.rpartition(":")
        if host in _LOOPBACK and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            return Endpoint(host=_LOOPBACK[host], port=int(port))
    raise ValueError(ALLOWED)


class MetricsOptions(NamedTuple):
    """``listen``: ``None`` is nowhere."""

    listen: Endpoint | None = None


SCHEMA: Final[Mapping[str, Reader]] = {"listen": lambda value: None if value == "" else endpoint(value)}
