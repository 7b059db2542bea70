"""The binding of zstd, which is wanted only where blocks are read or written."""

from types import ModuleType
from typing import Final, Protocol

from auditns_connector.archive.segment_layout import Damaged
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


class Decompressor(Protocol):
    """A ``ZstdDecompressor``."""

    def decompress(self, data: bytes, max_output_size: int) -> bytes: ...


def new_decompressor() -> Decompressor:
    """One that may be used again and again."""
    made: Decompressor = module().ZstdDecompressor()
    return made


def decompress(with_: Decompressor, data: bytes, most: int) -> bytes:
    """What a frame holds, ``most`` bytes at most. A frame says how long its content is, and so much memory is taken
    before it is looked at: one that claims more is refused. Raises :class:`Damaged`."""
    binding = module()
    try:
        if binding.frame_content_size(data) > most:
            raise Damaged("it claims to be larger than it can be")
        return bytes(with_.decompress(data, max_output_size=max(most, 1)))
    except binding.ZstdError as error:
        raise Damaged(str(error)) from error
