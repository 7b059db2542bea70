"""Our records for readers that take a value for hexadecimal where they do not know the field.

LAUREL (0.5 to 0.8) decodes an unquoted value of a field that is not in its tables when that is an even number of
hexadecimal digits: ``contid=699790083033926586`` becomes the bytes 69 97 90 …. In quotes a value arrives as it is.
"""

import re
from typing import Final

from auditns_connector.sinks.loss import Block

_MARK: Final = b"type=UNKNOWN[134"
_RECORD: Final = rb"(?m)^(?:node=[^ \n]{1,255} )?type=UNKNOWN\[134[0-7]\] msg=audit\([^)\n]*\):.*$"
_VALUE: Final = rb"(?<= )([a-z_-]+)=((?:[0-9A-Fa-f]{2})+)(?=[ \n]|$)"


def quoted(data: Block) -> Block:
    """Audit text (whole lines), with such values of our records, spelled by number, in quotes."""
    text = bytes(data)
    if _MARK not in text:
        return data
    return re.sub(_RECORD, lambda line: re.sub(_VALUE, rb'\1="\2"', line[0]), text)
