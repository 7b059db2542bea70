"""Outputs that the loop in C writes to by itself (cdefs/sinks/native_output.h), as their sinks see them.

As long as nothing waits for an output, the C may write to it. What it does not take at once the sink queues, and until
that has gone everything goes through the sink.
"""

from typing import Protocol

from auditns_connector._native import lib
from auditns_connector.sinks.loss import Block
from auditns_connector.vocabulary.values import CData

WRITER = int(lib.OUTPUT_WRITER)
PIPE = int(lib.OUTPUT_PIPE)
SOCKET = int(lib.OUTPUT_SOCKET)
MOST = int(lib.OUTPUTS)


class NativeOutput(Protocol):
    """One output of a sink: a file's thread, a descriptor, one reader of a socket."""

    def put(self, c: CData) -> None:
        """Fill a ``struct native_output``."""

    def passed(self, size: int, lines: int) -> None:
        """So many bytes and lines went, in whole blocks."""

    def write_rest(self, data: Block, sent: int) -> None:
        """Of ``data`` only ``sent`` bytes went. Never raises for the receiver's sake."""
