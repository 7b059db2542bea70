"""Memory for text."""

from typing import Final

from auditns_connector._native import ffi

#: memory for a text that is its reader's own: it is written over, so there is no need to clear it
fresh: Final = ffi.new_allocator(should_clear_after_alloc=False)
#: a text no larger than this is cheaper to copy than to give memory of its own (bytes)
SMALL: Final = 1 << 14
