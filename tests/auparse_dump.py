"""What libauparse makes of a log: one line for each record, an empty one behind each event. By ctypes, so that it runs
with any version of the library and needs no binding: ``python auparse_dump.py LOG``."""

import ctypes
import sys

AUSOURCE_FILE = 1


def main(path: str) -> None:
    """Print it."""
    lib = ctypes.CDLL("libauparse.so.0")
    lib.auparse_init.restype = ctypes.c_void_p
    lib.auparse_init.argtypes = [ctypes.c_int, ctypes.c_char_p]
    steps = ("next_event", "first_record", "next_record", "first_field", "next_field", "get_type", "get_num_records")
    texts = ("get_field_name", "get_field_str", "interpret_field", "get_record_text")
    for name in (*steps, *texts):
        function = getattr(lib, f"auparse_{name}")
        function.argtypes = [ctypes.c_void_p]
        function.restype = ctypes.c_char_p if name in texts else ctypes.c_int
    state = lib.auparse_init(AUSOURCE_FILE, path.encode())
    while lib.auparse_next_event(state) > 0:
        lib.auparse_first_record(state)
        for _ in range(lib.auparse_get_num_records(state)):
            words = [(lib.auparse_get_record_text(state) or b"").split(b": ")[0].decode("latin-1")]
            more = lib.auparse_first_field(state)
            while more > 0:
                for get in (lib.auparse_get_field_name, lib.auparse_get_field_str, lib.auparse_interpret_field):
                    words.append((get(state) or b"").decode("latin-1"))
                more = lib.auparse_next_field(state)
            print(lib.auparse_get_type(state), *map(repr, words))
            if lib.auparse_next_record(state) <= 0:
                break
        print()


main(sys.argv[1])
