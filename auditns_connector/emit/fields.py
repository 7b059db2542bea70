"""The fields of one record, decoded: what the JSON and the pretty output are made of.

Never fails, whatever the bytes. A value that is not UTF-8 is shown with backslash escapes (``\\xff``).
"""

import re
from typing import Any, Final

Value = Any
Fields = dict[str, Value]

_WORD: Final = re.compile(rb'([^ =]+)=("[^"]*"(?= |$)|[^ ]*)|([^ ]+)')
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]{0,14})")
_HEX: Final = re.compile(rb"(?:[0-9A-F]{2})+")
_ARGUMENT: Final = re.compile(rb"a([0-9]{1,7})(?:\[[0-9]{1,7}\])?")

_NUMERIC = """
argc auid capability code egid euid exit family fsgid fsuid gid inode item items len list lport lsm oauid obj_gid
obj_uid ogid opid oses ouid pid ppid prog-id proto record res saved_gid saved_uid ses sgid sig spid suid syscall tpid
tty_pid uid cauid cses old-auid old-ses tid inum old_inum ino old-ino last cpu count
audit makers most
"""
_UNTRUSTED = """
acct cmd comm ctr-id ctr-name cwd data device dir exe file grp image key name new-fs-path new_group ocomm old-fs-path
path pod pod-ns proctitle profile root_dir runtime sw vm watch invalid_context
"""
#: decimal numbers by their name, whatever the record
NUMERIC: Final = frozenset(_NUMERIC.split())
#: strings that the kernel or a trusted program wrote with audit_log_untrustedstring(): quoted, or in hex
UNTRUSTED: Final = frozenset(_UNTRUSTED.split())
#: words that stand for no value
_NOTHING: Final = frozenset((b"(null)", b""))


def text(raw: bytes) -> str:
    """Bytes as a string, for people and for JSON."""
    return raw.decode("utf-8", "backslashreplace")


def unquote(raw: bytes, untrusted: bool) -> str | None:
    """The string behind a value: without its quotes, out of hex where the field is an ``untrusted`` string."""
    if len(raw) >= 2 and raw[:1] == raw[-1:] == b'"':
        return text(raw[1:-1])
    if raw in _NOTHING:
        return None
    if untrusted and _HEX.fullmatch(raw):
        return text(bytes.fromhex(raw.decode("ascii")))
    return text(raw)


def value(name: str, raw: bytes) -> Value:
    """One value, by the name of its field."""
    if name in NUMERIC and _NUMBER.fullmatch(raw):
        return int(raw)
    return unquote(raw, name in UNTRUSTED)


def _add(found: Fields, name: str, what: Value) -> None:
    if name not in found:
        found[name] = what
    elif isinstance(found[name], list):
        found[name].append(what)
    else:
        found[name] = [found[name], what]


def parse(body: bytes, kind: str) -> Fields:
    """The fields of the body of a record of type ``kind`` (what stands behind ``msg=audit(…):``).

    Words that are no ``name=value`` are joined under "text"; a name that comes again makes a list. EXECVE's
    arguments become the list "argv". ``msg='…'`` of a user's record stays one string, for it is the sender's own.
    What ENRICHED format adds behind 0x1D is the object "enriched". A field "type" (NS_INIT has one) is called
    "nstype", for "type" is the record's own.
    """
    kernel, separator, enriched = body.strip(b" \r").partition(b"\x1d")
    message = None
    at = kernel.find(b"msg='")
    if at == 0 or (at > 0 and kernel[at - 1] == 0x20):
        kernel, message = kernel[:at], kernel[at + 5 :].removesuffix(b"'")
    found: Fields = {}
    words: list[str] = []
    arguments: dict[int, list[str]] = {}
    for name, raw, word in _WORD.findall(kernel):
        if word:
            words.append(text(word))
        elif kind == "EXECVE" and (match := _ARGUMENT.fullmatch(name)):
            arguments.setdefault(int(match[1]), []).append(unquote(raw, untrusted=True) or "")
        else:
            field = text(name)
            what = value(field, raw)
            if kind == "PROCTITLE" and field == "proctitle" and isinstance(what, str):
                what = what.replace("\0", " ")
            _add(found, "nstype" if field == "type" else field, what)
    if arguments:
        found["argv"] = ["".join(pieces) for _, pieces in sorted(arguments.items())]
    if words:
        found["text"] = " ".join(words)
    if message is not None:
        found["msg"] = text(message)
    if separator:
        found["enriched"] = {text(name): unquote(raw, False) for name, raw, _ in _WORD.findall(enriched) if name}
    return found
