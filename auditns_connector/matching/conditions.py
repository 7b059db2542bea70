"""Conditions on events: what each option of a search means for one value as it stands in the text, and which bytes a
match must have. Pure; users are those of this host."""

import ipaddress
import pwd
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from auditns_connector.audittext.values import untrusted
from auditns_connector.emit.fields import argv_of, flat
from auditns_connector.emit.words import address
from auditns_connector.errors import ConfigError
from auditns_connector.matching import paths
from auditns_connector.matching import patterns as p
from auditns_connector.vocabulary import syscall_names
from auditns_connector.vocabulary.values import decimal

#: whether a value, as it stands in the text, is meant
Judge = Callable[[bytes], bool]
_UNSET: Final = "4294967295"
_YES: Final = frozenset((b"yes", b"success", b"1"))
_NO: Final = frozenset((b"no", b"failed", b"0"))
#: no system call has a larger number
_MOST_CALL: Final = (1 << 31) - 1
#: more needles than that are no help
_MANY: Final = 32
#: words that are indexed are no longer (bytes)
_LONGEST: Final = 1000


class Condition(NamedTuple):
    """On ``column``: some value of the event that ``judge`` takes, or, ``negated``, none. ``needles`` are such that one
    stands in every event that fulfils it; ``None``: there are none. ``terms``, kind and value, are such that an event
    which fulfils it has one of them in the index of an archive; none: there are no such."""

    column: str
    judge: Judge
    negated: bool = False
    needles: Sequence[bytes] | None = None
    terms: Sequence[tuple[str, bytes]] = ()


def of_option(option: str, texts: Sequence[str]) -> list[Condition]:
    """What ``--option TEXT…`` asks for. Raises :class:`ConfigError`."""
    make, listed = _MAKERS[option]
    asked = p.parse(texts, listed=listed)
    if any(not word for word in (*asked.wanted, *asked.unwanted)):
        raise ConfigError(f"--{option}: a value is empty")
    found = [make(option, asked.wanted)] if asked.wanted else []
    found += [make(option, asked.unwanted)._replace(negated=True, needles=None, terms=())] if asked.unwanted else []
    return found


def text_of(raw: bytes) -> str | None:
    """The string behind an untrusted value, or one that is written as it is."""
    value = untrusted(raw)
    if value is None and raw not in (b"", b"(null)"):
        value = raw
    return None if value is None else value.decode("utf-8", "surrogateescape")


def _text(option: str, words: Sequence[str]) -> Condition:
    match = p.matcher(words)

    def judge(raw: bytes) -> bool:
        value = written(raw)
        return value is not None and match(value)

    return Condition(option, judge, needles=p.needles(words), terms=_terms(option, words))


def written(raw: bytes) -> str | None:
    """The string behind a value that was in quotes or in hex."""
    value = untrusted(raw)
    return None if value is None else value.decode("utf-8", "surrogateescape")


def _terms(kind: str, words: Sequence[str]) -> list[tuple[str, bytes]]:
    """Words as an index has them; none where one is a pattern, or longer than what is indexed."""
    if any(p.is_wild(word) or len(word) > _LONGEST for word in words):
        return []
    return [(kind, word.encode("utf-8", "surrogateescape")) for word in words]


def _key(option: str, words: Sequence[str]) -> Condition:
    match = p.matcher(words)

    def judge(raw: bytes) -> bool:
        value = text_of(raw)  # several keys of one rule are joined by byte 1
        return value is not None and any(map(match, value.split("\1")))

    return Condition(option, judge, needles=p.needles(words), terms=_terms(option, words))


def _user(option: str, words: Sequence[str]) -> Condition:
    numbers = frozenset(number for word in words for number in _ids(option, word))
    raws = frozenset(str(number).encode() for number in numbers)
    if int(_UNSET) in numbers:
        raws |= {b"-1", b"unset"}
    needles = [option.encode() + b"=" + raw for raw in sorted(raws)]
    return Condition(option, _unquoted(raws), needles=needles, terms=[(option, raw) for raw in sorted(raws)])


def _unquoted(raws: frozenset[bytes]) -> Judge:
    return lambda raw: raw.strip(b'"') in raws


def _ids(option: str, word: str) -> list[int]:
    """The user ids that a word means: a number, ``unset``, or a name of this host."""
    if word == "unset":
        return [int(_UNSET)]
    if (number := decimal(word, int(_UNSET))) is not None:
        return [number]
    try:
        return [pwd.getpwnam(word).pw_uid]
    except KeyError:
        raise ConfigError(f"--{option}: {word!r} is no user of this host; a number or unset is allowed") from None


def _success(option: str, words: Sequence[str]) -> Condition:
    if not set(words) <= {"yes", "no"}:
        raise ConfigError(f"--{option}: {', '.join(words)} is not allowed; allowed: yes, no")
    raws = frozenset(raw for word in words for raw in (_YES if word == "yes" else _NO))
    names = (b"success=", b"res=")
    return Condition(option, _unquoted(raws), needles=[name + raw for name in names for raw in sorted(raws)])


def _syscall(option: str, words: Sequence[str]) -> Condition:
    """By number, or by name: a number then, of the architecture that the record says."""
    tables = [_call_numbers(option, word) for word in words]

    def judge(raw: bytes) -> bool:
        arch, _, number = raw.partition(b"\0")
        call = decimal(number.decode("latin-1"), _MOST_CALL)
        return any(call in table.get(arch.decode("latin-1"), ()) or call in table.get("", ()) for table in tables)

    numbers = {number for table in tables for numbers in table.values() for number in numbers}
    few = sorted(numbers) if len(numbers) <= _MANY else []
    terms = [(option, b"%d" % number) for number in few]
    return Condition(option, judge, needles=[b"syscall=%d" % number for number in few] or None, terms=terms)


def _call_numbers(option: str, word: str) -> Mapping[str, frozenset[int]]:
    """Architecture ("" for any) -> the numbers that a word means there."""
    if (number := decimal(word, _MOST_CALL)) is not None:
        return {"": frozenset((number,))}
    found = syscall_names.calls_named(p.matcher([word]))
    if not found:
        raise ConfigError(f"--{option}: no architecture has a system call {word!r}")
    return found


def _file(option: str, words: Sequence[str]) -> Condition:
    """A pattern with a slash means the whole path, one without its last component."""
    whole = p.matcher([word if p.is_wild(word) else paths.normal(word) for word in words if "/" in word])
    last = p.matcher([word for word in words if "/" not in word])

    def judge(raw: bytes) -> bool:
        path = path_of(raw)
        return path is not None and (whole(path) or last(path.rpartition("/")[2]))

    # no component is divided, but the directory may stand elsewhere than the file
    components = [max(map(p.piece, word.split("/")), key=len) for word in words]
    terms = [term for word in words for term in _path_terms(word)]
    # of some files only the name is indexed, for the directory that it is relative to came later
    indexed = [] if len(terms) < len(words) else [*terms, ("path", b"")]
    return Condition(option, judge, needles=p.pieces_as_written(components), terms=indexed)


def _path_terms(word: str) -> list[tuple[str, bytes]]:
    """What the index has of every file that a pattern means, if there is something."""
    if p.is_wild(word):
        last = word.rpartition("/")[2]  # of which a list of characters could be a part
        return [] if "[" in word or "/" not in word or not last else _terms("base", [last])
    return _terms("path", [paths.normal(word)]) if "/" in word else _terms("base", [word])


def path_of(raw: bytes) -> str | None:
    """The path behind a value of the column "file": directory, NUL, name."""
    cwd, _, name = raw.partition(b"\0")
    value = written(name)
    return None if value is None else paths.joined(written(cwd), value)


def arguments_of(raw: bytes) -> list[str]:
    """The arguments behind a value of the column "argv"."""
    found = argv_of(raw.split(b"\0"), len(raw)).fields().get("argv", ())
    return ["" if argument is None else argument for argument in flat(found)]


def _argv(option: str, words: Sequence[str]) -> Condition:
    """A pattern means one argument, or all of them with spaces between."""
    match = p.matcher(words)

    def judge(raw: bytes) -> bool:
        found = arguments_of(raw)
        return any(map(match, found)) or match(" ".join(found))

    pieces = p.pieces_as_written(max(map(p.piece, word.split()), key=len, default="") for word in words)
    # an argument that is long stands in pieces, and the needle may be cut
    needles = None if pieces is None else [*pieces, b"_len="]
    terms = [] if any(" " in word for word in words) else _terms("arg", words)
    terms += [("arg", b"")] if terms else []  # one that stands in pieces is not indexed
    return Condition(option, judge, needles=needles, terms=terms)


_PORT: Final = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<four>[0-9.]+))(?::(?P<port>[0-9]{1,5}))?")


def _addr(option: str, words: Sequence[str]) -> Condition:
    """Addresses, networks, ADDRESS:PORT, unix:PATH, and patterns for any of these or a host's name."""
    for word in words:
        _check_prefix(option, word)
    networks = [found for word in words if (found := _network(word)) is not None]
    others = p.matcher([word for word in words if _network(word) is None])

    def judge(raw: bytes) -> bool:
        return _means(raw, networks, others)

    pieces = [_address_pieces(word) for word in words]
    everywhere = any(one is None for one in pieces)
    needles = None if everywhere else [one for some in pieces for one in some or ()]
    parsed = [_address_term(word) for word in words]
    terms = [] if None in parsed else [("addr", one) for one in parsed if one is not None]
    return Condition(option, judge, needles=needles, terms=terms)


def _check_prefix(option: str, word: str) -> None:
    """Raises ConfigError for an address with a length that its networks cannot have."""
    address, _, length = word.rpartition("/")
    network = _network(address)
    if network is not None and length.isdecimal() and _network(word) is None:
        raise ConfigError(f"--{option}: {word!r} is no network: a length from 0 to {network.max_prefixlen} is allowed")


def _address_term(word: str) -> bytes | None:
    """The address that a word means, as an index has it; ``None`` for networks and patterns."""
    match = _PORT.fullmatch(word)
    network = _network(word if match is None else match["six"] or match["four"])
    if network is None or network.num_addresses > 1:
        return None
    return str(network.network_address).encode()


def address_of(raw: bytes) -> str | None:
    """The address behind a value of the column "addr": as it is, or, behind a NUL, of a SOCKADDR."""
    if raw[:1] == b"\0":
        return address({"saddr": raw[1:].decode("latin-1")})
    value = raw.strip(b'"').decode("utf-8", "surrogateescape")
    return value if value not in ("", "?", "(null)") else None


def _means(raw: bytes, networks: Sequence["_Network"], others: p.Match) -> bool:
    value = address_of(raw)
    if value is None:
        return False
    if others(value) or (value.startswith("unix:") and others(value[5:])):
        return True
    match = _PORT.fullmatch(value)
    bare = value if match is None else match["six"] or match["four"]
    if others(bare):
        return True
    try:
        at = ipaddress.ip_address(bare)
    except ValueError:
        return False
    return any(at in network for network in networks)


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(word: str) -> _Network | None:
    try:
        return ipaddress.ip_network(word.strip("[]"), strict=False)
    except ValueError:
        return None


def _address_pieces(word: str) -> list[bytes] | None:
    network = _network(word)
    if network is not None:
        if network.num_addresses > 1:
            return None
        packed = network.network_address.packed.hex().upper().encode()
        return [packed, str(network.network_address).encode()]
    match = _PORT.fullmatch(word)
    if match is not None:
        port = b"" if match["port"] is None else b"%04X" % min(int(match["port"]), 0xFFFF)
        host = match["six"] or match["four"]
        inner = _address_pieces(host) if _network(host) is not None else None
        return None if inner is None else [port + inner[0] if match["four"] else inner[0], inner[1]]
    return p.pieces_as_written([p.piece(word.removeprefix("unix:@").removeprefix("unix:"))])


#: option -> how its condition is made, and whether it takes lists
_MAKERS: Final[dict[str, tuple[Callable[[str, Sequence[str]], Condition], bool]]] = {
    "auid": (_user, True),
    "uid": (_user, True),
    "exe": (_text, False),
    "comm": (_text, False),
    "key": (_key, False),
    "success": (_success, False),
    "syscall": (_syscall, True),
    "file": (_file, False),
    "argv": (_argv, False),
    "addr": (_addr, False),
}
OPTIONS: Final[Iterable[str]] = tuple(_MAKERS)
