"""Whose namespaces are, as far as NS_INIT and NS_CHANGE of a log tell, and who has gone into another container's.

A namespace is that of the containers whose processes made it or came to be in it by clone or unshare; one of the
kernel's own is the host's. Who goes into one by setns has it from somebody else: that is what is looked for. Of a
namespace that is several containers' all are named, and of one of which the log does not tell, nothing is said.
"""

from typing import Final

from auditns_connector.query.answers import Holder
from auditns_connector.vocabulary.namespaces import FLAGS
from auditns_connector.vocabulary.record_types import NS_CHANGE, NS_INIT

#: namespaces that are remembered, and containers of one
_MOST: Final = 100_000
_MOST_OF_ONE: Final = 8
#: type= (CLONE_NEW*, in hexadecimal) -> name
_TYPES: Final = {b"%x" % flag: name for name, flag in FLAGS.items()}
_HOST: Final = Holder("", "", {})


class Spaces:
    """Who was seen in each namespace so far."""

    def __init__(self) -> None:
        #: by serial: contid -> who that is
        self._of: dict[bytes, dict[str, Holder]] = {}
        #: namespaces that there was no room for
        self.dropped = 0

    def take(self, kind: int, who: Holder, words: dict[str, bytes]) -> tuple[str, list[Holder]] | None:
        """``who`` is in a record of that ``kind``. Where that says that a process of a container has gone into
        the namespace of others: the type of it, and theirs."""
        serial, reason = words.get("snum", b"?"), words.get("reason", b"")
        if kind not in (NS_INIT, NS_CHANGE) or serial in (b"?", b"0"):
            return None
        if kind == NS_CHANGE and reason == b"setns":
            theirs = self._of.get(serial, {})
            if not who.contid or not theirs or who.contid in theirs:
                return None
            return _TYPES.get(words.get("type", b""), "?"), list(theirs.values())
        kernels = kind == NS_INIT and words.get("pid") == b"0"
        if kernels or (who.contid and reason in (b"", b"clone", b"unshare")):
            self._learn(serial, _HOST if kernels else who)
        return None

    def _learn(self, serial: bytes, who: Holder) -> None:
        theirs = self._of.get(serial)
        if theirs is None:
            if len(self._of) >= _MOST:
                self.dropped += 1
                return
            theirs = self._of[serial] = {}
        if len(theirs) < _MOST_OF_ONE:
            theirs[who.contid] = who
