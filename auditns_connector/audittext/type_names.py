"""The names of record types, handed to the C once."""

import functools

from auditns_connector._native import ffi, lib
from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.values import CData


@functools.cache
def type_names() -> CData:
    """The table of names, which the C then knows; it holds them as long as this is kept."""
    names = ffi.new("char[]", b"\0".join(name.encode() for name in rectypes.NUMBERS) + b"\0")
    numbers = ffi.new("uint32_t[]", [rectypes.flagged(number) for number in rectypes.NUMBERS.values()])
    lib.auditns_text_types(names, numbers, len(rectypes.NUMBERS))
    return names
