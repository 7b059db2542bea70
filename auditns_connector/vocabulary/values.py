"""Types of values that have no better one: what is decoded from JSON or TOML, and what belongs to the C."""

from typing import Any, Final

#: decoded JSON or TOML, of whatever shape: whoever reads it checks what it is
Json = Any
#: the same where it is known to be an object
JsonObject = dict[str, Any]
#: an object of cffi: its type is the C's, see the headers in cdefs/
CData = Any

#: of a process so many parents can be asked for in a record
MOST_PARENTS: Final = 32
