"""The binding of zstd, which is wanted only where blocks are read or written."""

from types import ModuleType
from typing import Final

from auditns_connector.errors import NotSupportedError

#: what segments are compressed with: on audit text the levels 2 and 3 take longer and are no smaller
LEVEL: Final = 1


def module() -> ModuleType:
    """``zstandard``; raises NotSupportedError (not supported here) where it is not installed."""
    try:
        import zstandard
    except ImportError:
        raise NotSupportedError(
            "the archive needs a module that is missing: pip install 'auditns-connector[archive]'"
        ) from None
    return zstandard
