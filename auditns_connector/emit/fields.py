"""The fields of one record, decoded: what the JSON and the pretty output are made of.

Never fails, whatever the bytes. A value that is not UTF-8 is shown with backslash escapes (``\\xff``).
"""

import re
from collections.abc import Sequence
from typing import Any, Final

Value = Any
Fields = dict[str, Value]
#: one of ``argv``; None is not there, a list are the pieces of one that is not whole
Argument = str | None | list[str | None]

_WORD: Final = re.compile(rb'([^ =]+)=("[^"]*"(?= |$)|[^ ]*)|([^ ]+)')
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]{0,14})")
_HEX: Final = re.compile(rb"(?:[0-9A-F]{2})+")
_ARGUMENT: Final = re.compile(rb"a([0-9]{1,7})(?:\[(?P<piece>[0-9]{1,7})\]|(?P<length>_len))?")
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
#: so many arguments may be missing from a list whatever its size
_GAP: Final = 4096
_NAMED: Final = re.compile(rb"([^ =]+)=")
_NEXT: Final = re.compile(rb' [^ ="]+=')

_NUMERIC = """
argc auid capability code egid euid exit family fsgid fsuid gid inode item items len list lport lsm oauid obj_gid
obj_uid ogid opid oses ouid pid ppid prog-id proto record res saved_gid saved_uid ses sgid sig spid suid syscall tpid
tty_pid uid cauid cses old-auid old-ses tid inum old_inum ino old-ino last cpu count
audit makers most entry-pid entry-auid entry-ses
"""
_UNTRUSTED = """
acct cmd comm ctr-id ctr-name cwd data device dir exe file grp image key name new-fs-path new_group ocomm old-fs-path
path pod pod-ns proctitle profile root_dir runtime sw vm watch invalid_context
pod-uid role labels unit parents entry-comm entry-exe entry-unit entry-parents
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
    found = _bytes_of(raw, untrusted)
    return None if found is None else text(found)


def _bytes_of(raw: bytes, untrusted: bool) -> bytes | None:
    if len(raw) >= 2 and raw[:1] == raw[-1:] == b'"':
        return raw[1:-1]
    if raw in _NOTHING:
        return None
    if untrusted and _HEX.fullmatch(raw):
        return bytes.fromhex(raw.decode("ascii"))
    return raw


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


class Argv:
    """The arguments of an event, of all its EXECVE records: the kernel splits the list over several, and an argument
    that is too long into pieces, ``a1_len=9000 a1[0]=… a1[1]=…``. One of which a piece is missing, or is there twice,
    cannot be put together, and stays the list of its pieces.

    ``size`` is how many bytes the bodies of these records have: an argument far beyond that many is a field like any
    other, so that a short record cannot make a long list.
    """

    def __init__(self, size: int) -> None:
        self._most = _GAP + size
        self._pieces: list[tuple[int, int, int, bytes]] = []
        self._lengths: dict[int, str] = {}

    def has(self, name: bytes, raw: bytes) -> bool:
        """Whether a field is part of an argument."""
        match = _ARGUMENT.fullmatch(name)
        if match is None or int(match[1]) >= self._most:
            return False
        return not match["length"] or bool(_LENGTH.fullmatch(raw))

    def take(self, name: bytes, raw: bytes) -> None:
        """Take in a field that is part of an argument."""
        match = _ARGUMENT.fullmatch(name)
        if match is None or not self.has(name, raw):
            return
        number = int(match[1])
        if match["length"]:
            self._lengths[number] = text(raw)
            return
        piece = _bytes_of(raw, untrusted=True) or b""
        self._pieces.append((number, int(match["piece"] or 0), len(self._pieces), piece))

    def fields(self) -> Fields:
        """``argv``, with ``None`` for an argument (or pieces of one) that is not there, and before it the lengths of
        those in pieces."""
        pieces: dict[int, list[tuple[int, bytes]]] = {}
        for number, place, _, piece in sorted(self._pieces):
            pieces.setdefault(number, []).append((place, piece))
        found: Fields = {f"a{number}_len": length for number, length in sorted(self._lengths.items())}
        if pieces:
            every = (pieces.get(number) for number in range(max(pieces) + 1))
            found["argv"] = [None if some is None else _put_together(some) for some in every]
        return found


def _put_together(pieces: Sequence[tuple[int, bytes]]) -> Argument:
    """One argument of its pieces by place, in order."""
    if all(place == n for n, (place, _) in enumerate(pieces)):
        return text(b"".join(piece for _, piece in pieces))
    found: list[str | None] = []
    next_ = 0
    for place, piece in pieces:
        found += [None] * (place > next_)
        found.append(text(piece))
        next_ = place + 1
    return found


def flat(argv: Sequence[Argument]) -> list[str | None]:
    """The arguments of a record's ``argv``, each piece of those that cannot be put together as one of its own."""
    return [word for one in argv for word in (one if isinstance(one, list) else (one,))]


def argv_of(bodies: Sequence[bytes], size: int | None = None) -> Argv:
    """The arguments in the bodies of an event's EXECVE records, which have ``size`` bytes together."""
    argv = Argv(sum(map(len, bodies)) if size is None else size)
    for body in bodies:
        kernel, _, _ = _parts(body)
        for name, raw, word in _WORD.findall(kernel):
            if not word:
                argv.take(name, raw)
    return argv


def _parts(body: bytes) -> tuple[bytes, bytes | None, bytes | None]:
    """The fields of a body, what stands in its ``msg='…'``, and what ENRICHED format adds."""
    kernel, separator, enriched = body.strip(b" \r").partition(b"\x1d")
    message = None
    at = kernel.find(b"msg='")
    if at == 0 or (at > 0 and kernel[at - 1] == 0x20):
        kernel, message = kernel[:at], kernel[at + 5 :].removesuffix(b"'")
    return kernel, message, enriched if separator else None


def parse(body: bytes, kind: str, argv: Argv | None = None, first: bool = True) -> Fields:
    """The fields of the body of a record of type ``kind`` (what stands behind ``msg=audit(…):``).

    Words that are no ``name=value`` are joined under "text"; a name that comes again makes a list. EXECVE's arguments
    become the list "argv"; where an event has several EXECVE records, ``argv`` are those of all of them, to be said in
    the ``first``. ``msg='…'`` of a user's record stays one string, for it is the sender's own. What ENRICHED format
    adds behind 0x1D is the object "enriched". A field "type" (NS_INIT has one) is called "nstype", for "type" is the
    record's own.
    """
    kernel, message, enriched = _parts(body)
    if kind == "EXECVE" and argv is None:
        argv = argv_of([body])
    found: Fields = {}
    words: list[str] = []
    for name, raw, word in _WORD.findall(kernel):
        if word:
            words.append(text(word))
        elif argv is None or not argv.has(name, raw):
            field = text(name)
            what = value(field, raw)
            if kind == "PROCTITLE" and field == "proctitle" and isinstance(what, str):
                what = what.replace("\0", " ")
            _add(found, "nstype" if field == "type" else field, what)
    if argv is not None and first:
        found |= argv.fields()
    if words:
        found["text"] = " ".join(words)
    if message is not None:
        found["msg"] = text(message)
    if enriched is not None:
        found["enriched"] = added(enriched)
    return found


# -- what ENRICHED format adds


def added(raw: bytes) -> Fields:
    """The fields behind 0x1D; a name that comes again makes a list. A value goes up to the next ``NAME=``, spaces and
    quotes in it included; ``{ … }`` is an object. Words without a name are joined under "text"."""
    found: Fields = {}
    words: list[str] = []
    closers = _Closers(raw)
    at = _skip(raw, 0)
    while at < len(raw):
        named = _NAMED.match(raw, at)
        if named is None:
            stop = _words_stop(raw, at)
            words.append(text(raw[at:stop].strip(b" ")))
        else:
            what, stop = _added_value(raw, named.end(), closers)
            if isinstance(what, dict):
                found[text(named[1])] = what
            else:
                _add(found, text(named[1]), what)
        at = _skip(raw, stop)
    if words:
        found["text"] = " ".join(words)
    return found


class _Closers:
    """Where values that open with a brace or a quote are closed. What a search to the end has not found is not looked
    for again: who writes the text could make each of thousands of values look through all of it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._brace: int | None = None
        self._no_quote = len(raw)

    def brace(self, at: int) -> int:
        """The last `` }`` with a space or the end behind it, where it closes what opens at ``at``; else -1."""
        if self._brace is None:
            raw = self._raw
            end = raw.rfind(b" }")
            while end >= 0 and raw[end + 2 : end + 3] not in (b"", b" "):
                end = raw.rfind(b" }", 0, end + 1)
            self._brace = end
        return self._brace if self._brace > at else -1

    def quote(self, at: int) -> int:
        """As :func:`_quote_end`."""
        if at >= self._no_quote:
            return -1
        end = _quote_end(self._raw, at)
        if end < 0:
            self._no_quote = at
        return end


def _skip(raw: bytes, at: int) -> int:
    while raw[at : at + 1] == b" ":
        at += 1
    return at


def _added_value(raw: bytes, at: int, closers: _Closers) -> tuple[Value, int]:
    """The value that begins at ``at``, and where it ends."""
    if raw[at : at + 1] == b"{" and (end := closers.brace(at)) >= 0:
        return _braced(raw[at + 1 : end]), end + 2
    if raw[at : at + 1] == b'"' and (end := closers.quote(at)) >= 0:
        return text(raw[at + 1 : end]), end + 1
    stop = _words_stop(raw, at)
    return unquote(raw[at:stop].strip(b" "), untrusted=False), stop


def _words_stop(raw: bytes, at: int) -> int:
    """Where the next ``NAME=`` begins, with the space before it."""
    found = _NEXT.search(raw, at)
    return found.start() if found else len(raw)


def _quote_end(raw: bytes, at: int) -> int:
    """Where the quote that opens at ``at`` is closed, -1 where it is not: at one with the end or a ``NAME=`` behind it;
    else, up to where another quote opens, at the first with a space behind it."""
    first = -1
    end = raw.find(b'"', at + 1)
    while end >= 0:
        if end + 1 == len(raw) or _NEXT.match(raw, end + 1):
            return end
        if first >= 0 and raw[end - 1] == 0x3D:
            return first
        if first < 0 and raw[end + 1] == 0x20:
            first = end
        end = raw.find(b'"', end + 1)
    return first


def _braced(raw: bytes) -> Fields:
    """The object in ``{ … }``; a path goes up to its end."""
    found: Fields = {}
    words: list[str] = []
    at = _skip(raw, 0)
    while at < len(raw):
        named = _NAMED.match(raw, at)
        start = at if named is None else named.end()
        stop = raw.find(b" ", start)
        if stop < 0 or (named is not None and named[1] == b"path"):
            stop = len(raw)
        if named is None:
            words.append(text(raw[start:stop]))
        else:
            _add(found, text(named[1]), unquote(raw[start:stop].rstrip(b" "), untrusted=False))
        at = _skip(raw, stop)
    if words:
        found["text"] = " ".join(words)
    return found
