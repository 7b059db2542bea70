"""The binding of zstd, which is wanted only where blocks are read or written."""

from types import ModuleType
from typing import Final

from auditns_connector.errors import NotSupportedError

#: what segments are compressed with: above it the text of audit hardly gets smaller
LEVEL: Final = 3


def module() -> ModuleType:
    """``zstandard``; raises NotSupportedError (not supported here) where it is not installed."""
    try:
        import zstandard
    except ImportError:
        raise NotSupportedError(
            "the archive needs a module that is missing: pip install 'auditns-connector[archive]'"
        ) from None
    return zstandard
