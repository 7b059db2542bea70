"""The table [archive]: where rotated text is sealed, and how much of it stays."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from auditns_connector.config import readers as v
from auditns_connector.config.readers import GIB, MIB, Reader


class ArchiveOptions(NamedTuple):
    """Where rotated text of the log is sealed; an empty ``path`` is nowhere. Sizes in bytes, ``max_age`` in seconds;
    0 is no limit."""

    path: str = ""
    max_size: int = 0
    max_age: int = 0
    min_free: int = GIB


_SIZE: Final = v.size(MIB, 1024 * 1024 * GIB, zero=True)
SCHEMA: Final[Mapping[str, Reader]] = {
    "path": v.path_name(empty=True),
    "max_size": _SIZE,
    "max_age": v.age,
    "min_free": _SIZE,
}
