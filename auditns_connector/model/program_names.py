"""Names of programs as numbers, and of so many that run on a host the names by their numbers (cdefs/table/names.c)."""

from auditns_connector._native import ffi, lib
from auditns_connector.vocabulary.values import CData


class ProgramNames:
    """Names that the table ``c`` knows."""

    c: CData

    def hash(self, name: bytes) -> int:
        """``name`` as :attr:`Exec.file` has it."""
        return int(lib.table_hash(self.c, name, len(name)))

    def name(self, number: int) -> bytes:
        """What :attr:`Exec.file` is the number of; b"" where that is not remembered."""
        length = ffi.new("uint32_t *")
        text = lib.table_name(self.c, number, length) if number else ffi.NULL
        return bytes(ffi.buffer(text, length[0])) if text else b""

    def numbered(self, name: bytes) -> int:
        """:meth:`hash` of the name of a program that was run; :meth:`name` knows it from now on."""
        number = self.hash(name)
        lib.table_name_put(self.c, number, name, len(name))
        return number
