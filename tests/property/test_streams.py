"""Whatever a record holds, the container's view of it has none of the host's numbers."""

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.streams.messages import Sender, record
from auditns_connector.streams.tailor import Names, Tailor, Tally

NUMBERS = st.integers(10_000_000, 2**31 - 1)
PIDS = st.sampled_from(["pid", "ppid", "opid"])
IDS = st.sampled_from(
    ["uid", "gid", "euid", "fsgid", "ouid", "auid", "oauid", "ses", "oses", "old-auid", "cap_frootid"]
)
WORDS = st.sampled_from(['comm="x"', "key=(null)", "a0=5", "exit=0", "", "pid", "=", "subj=u:r:t:s0"])


@given(st.lists(st.one_of(st.tuples(PIDS, NUMBERS), st.tuples(IDS, NUMBERS), WORDS), max_size=20), st.booleans())
def test_no_number_of_the_hosts_is_left(parts: list[tuple[str, int] | str], known: bool) -> None:
    words = [part if isinstance(part, str) else f"{part[0]}={part[1]}" for part in parts]
    numbers = {part[1] for part in parts if not isinstance(part, str)}
    pids = dict.fromkeys(numbers, 7) if known else {}
    names = Names(pids, lambda uid: 3 if known else None, lambda gid: 4 if known else None)
    line = Tailor(names, Tally()).line(b"type=X msg=audit(1.000:2): " + " ".join(words).encode() + b"\n")
    assert not any(str(number).encode() in line for number in numbers)
    assert line.count(b"=") == 2 + " ".join(words).count("=")


@given(st.binary(max_size=300))
def test_no_message_breaks_out_of_its_field(text: bytes) -> None:
    line = record("USER_CMD", text, Sender(1, 2, 3, 4, text or None), "web", 0, 1)
    head, _, message = line.partition(b" msg='")
    assert line.count(b"\n") == 1
    assert message.count(b"'") == 1
    assert [word.partition(b"=")[0] for word in message.split(b" ")] == [
        b"op", b"stream", b"data", b"exe", b"hostname", b"addr", b"terminal", b"res",
    ]  # fmt: skip
    assert head == b"type=USER_CMD msg=audit(0.000:1): pid=1 uid=2 auid=3 ses=4"
