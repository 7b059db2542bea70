"""Audit control against a scripted kernel: acknowledgements in every order, errors, overflow, hostile senders."""

import errno
import struct
from collections.abc import Callable

import pytest

from auditns_connector.auditrules import codec as auditrule
from auditns_connector.auditrules.netlink import AUDIT_GET, AUDIT_LIST_RULES, AuditControl
from auditns_connector.errors import AuditnsError, DecodeError, NotPermittedError, NotSupportedError

HEADER = struct.Struct("=IHHII")
KERNEL = (0, 0)
Step = tuple[bytes, tuple[int, int]] | OSError
RULE = auditrule.our_rules("x86_64", "k")[0]


def message(kind: int, seq: int, body: bytes = b"") -> tuple[bytes, tuple[int, int]]:
    return HEADER.pack(16 + len(body), kind, 0, seq, 0) + body, KERNEL


def ack(seq: int, code: int = 0) -> tuple[bytes, tuple[int, int]]:
    return message(2, seq, struct.pack("=i", -code) + bytes(16))


def status(enabled: int = 1) -> bytes:
    return struct.pack("=11I", 0, enabled, 1, 77, 0, 64, 3, 0, 127, 15000, 0)


class FakeKernel:
    """Answers each request with what ``answer(kind, seq, body)`` lists; then times out, as a socket would."""

    def __init__(self, answer: Callable[[int, int, bytes], list[Step]]) -> None:
        self.answer = answer
        self.queue: list[Step] = []
        self.sent: list[tuple[int, bytes]] = []

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        _length, kind, flags, seq, _port = HEADER.unpack_from(data)
        assert (address, flags) == (KERNEL, 5)
        self.sent.append((kind, data[16:]))
        self.queue += self.answer(kind, seq, data[16:])
        return len(data)

    def recvfrom(self, size: int, /) -> tuple[bytes, tuple[int, int]]:
        if not self.queue:
            raise TimeoutError
        step = self.queue.pop(0)
        if isinstance(step, OSError):
            raise step
        return step

    def settimeout(self, seconds: float | None, /) -> None:
        assert seconds is None or seconds > 0

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.queue.clear()


@pytest.mark.parametrize("first", ["ack", "data"])
def test_status_with_the_acknowledgement_before_or_after(first: str) -> None:
    def answer(kind: int, seq: int, body: bytes) -> list[Step]:
        both: list[Step] = [ack(seq), message(AUDIT_GET, seq, status())]
        return both if first == "ack" else both[::-1]

    assert AuditControl(FakeKernel(answer)).status()[1:7] == (1, 1, 77, 0, 64, 3)


def test_short_status_of_an_old_kernel() -> None:
    kernel = FakeKernel(lambda kind, seq, body: [message(AUDIT_GET, seq, status()[:32]), ack(seq)])
    assert AuditControl(kernel).status().backlog_wait_time == 0


def test_truncated_status_is_a_decode_error() -> None:
    kernel = FakeKernel(lambda kind, seq, body: [message(AUDIT_GET, seq, status()[:31]), ack(seq)])
    with pytest.raises(DecodeError):
        AuditControl(kernel).status()


def test_list_ends_at_done_and_is_trimmed() -> None:
    def answer(kind: int, seq: int, body: bytes) -> list[Step]:
        listed = message(AUDIT_LIST_RULES, seq, RULE + bytes(3))
        return [ack(seq), listed, listed, message(3, seq)]

    assert AuditControl(FakeKernel(answer)).list_rules() == [RULE, RULE]


def test_messages_of_others_are_passed_over() -> None:
    def answer(kind: int, seq: int, body: bytes) -> list[Step]:
        forged = (message(AUDIT_GET, seq, status(2))[0], (4711, 0))
        stale = message(AUDIT_GET, seq + 1, status(2))
        return [forged, stale, (b"short", KERNEL), message(AUDIT_GET, seq, status()), ack(seq)]

    assert AuditControl(FakeKernel(answer)).status().enabled == 1


def test_lost_answers_are_asked_for_again() -> None:
    lost = iter([OSError(errno.ENOBUFS, ""), OSError(errno.ENOBUFS, "")])

    def answer(kind: int, seq: int, body: bytes) -> list[Step]:
        overflow = next(lost, None)
        return [overflow] if overflow else [ack(seq), message(AUDIT_GET, seq, status())]

    kernel = FakeKernel(answer)
    assert AuditControl(kernel).status().enabled == 1
    assert len(kernel.sent) == 3


def test_endless_overflow_is_an_error() -> None:
    control = AuditControl(FakeKernel(lambda kind, seq, body: [OSError(errno.ENOBUFS, "")]))
    with pytest.raises(AuditnsError, match="overflow"):
        control.status()
    with pytest.raises(AuditnsError, match="overflow"):
        control.set_enabled(1)


def test_exists_after_a_lost_acknowledgement_means_added() -> None:
    steps = iter([OSError(errno.ENOBUFS, ""), None])
    kernel = FakeKernel(lambda kind, seq, body: [next(steps) or ack(seq, errno.EEXIST)])
    assert AuditControl(kernel).add_rule(RULE) is True


def test_add_and_delete_tell_what_was_there() -> None:
    assert AuditControl(FakeKernel(lambda kind, seq, body: [ack(seq, errno.EEXIST)])).add_rule(RULE) is False
    assert AuditControl(FakeKernel(lambda kind, seq, body: [ack(seq, errno.ENOENT)])).delete_rule(RULE) is False


def test_prepend_sets_the_flag_and_nothing_else() -> None:
    kernel = FakeKernel(lambda kind, seq, body: [ack(seq)])
    AuditControl(kernel).add_rule(RULE, append=False)
    assert kernel.sent[0][1] == struct.pack("=I", 0x14) + RULE[4:]


@pytest.mark.parametrize(("enabled", "error"), [(2, NotSupportedError), (1, NotPermittedError)])
def test_refused_change_is_immutable_or_not_permitted(enabled: int, error: type[AuditnsError]) -> None:
    def answer(kind: int, seq: int, body: bytes) -> list[Step]:
        if kind == AUDIT_GET:
            return [ack(seq), message(AUDIT_GET, seq, status(enabled))]
        return [ack(seq, errno.EPERM)]

    with pytest.raises(error) as caught:
        AuditControl(FakeKernel(answer)).add_rule(RULE)
    assert caught.value.exit_code == 3
    assert ("-e 2" in str(caught.value)) == (enabled == 2)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.EPERM, NotPermittedError),
        (errno.ECONNREFUSED, NotPermittedError),
        (errno.EINVAL, NotSupportedError),
        (errno.ENOMEM, AuditnsError),
    ],
)
def test_every_refusal_has_its_error(number: int, error: type[AuditnsError]) -> None:
    with pytest.raises(error):
        AuditControl(FakeKernel(lambda kind, seq, body: [ack(seq, number)])).list_rules()


def test_refusal_of_the_send_itself() -> None:
    def answer(kind: int, seq: int, body: bytes) -> list[Step]:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    with pytest.raises(NotPermittedError, match="refuses"):
        AuditControl(FakeKernel(answer)).status()


def test_silence_is_an_error() -> None:
    with pytest.raises(AuditnsError, match="did not answer"):
        AuditControl(FakeKernel(lambda kind, seq, body: [])).status()


def test_cut_acknowledgement_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        AuditControl(FakeKernel(lambda kind, seq, body: [message(2, seq, b"ab")])).status()


def test_locking_is_not_offered() -> None:
    with pytest.raises(ValueError, match="only 0 and 1"):
        AuditControl(FakeKernel(lambda kind, seq, body: [ack(seq)])).set_enabled(2)


class SlowKernel(FakeKernel):
    """Answers when it is told to; ``waited``: how long each message was waited for, at most (seconds)."""

    def __init__(self, *rules: bytes) -> None:
        super().__init__(lambda kind, seq, body: [])
        self.rules, self.enabled, self.seq, self.waited = rules, 1, 0, [0.0]

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        self.seq = HEADER.unpack_from(data)[3]
        return super().sendto(data, address)

    def settimeout(self, seconds: float | None, /) -> None:
        super().settimeout(seconds)
        if seconds is not None:
            self.waited.append(seconds)

    def acknowledge(self) -> None:
        self.queue.append(ack(self.seq))

    def reply(self) -> None:
        """To the last request."""
        if self.sent[-1][0] == AUDIT_GET:
            self.queue.append(message(AUDIT_GET, self.seq, status(self.enabled)))
        else:
            self.queue += [*(message(AUDIT_LIST_RULES, self.seq, rule) for rule in self.rules), message(3, self.seq)]


def test_rules_are_asked_for_without_waiting() -> None:
    kernel = SlowKernel(RULE)
    question = AuditControl(kernel).ask_rules()
    assert question.answered() is None
    for step in (kernel.acknowledge, kernel.reply, kernel.reply):
        step()
        assert question.answered() is None
    kernel.acknowledge()
    found = question.answered()
    assert found is not None
    assert (found.rules, found.status.enabled) == ([RULE], 1)
    assert [kind for kind, _ in kernel.sent] == [AUDIT_LIST_RULES, AUDIT_GET]
    assert max(kernel.waited) <= 0.001


def test_rules_that_are_refused_are_not_waited_for() -> None:
    kernel = SlowKernel()
    question = AuditControl(kernel).ask_rules()
    assert question.answered() is None
    kernel.queue.append(ack(kernel.seq, errno.EPERM))
    with pytest.raises(NotPermittedError):
        question.answered()


def test_rules_are_asked_for_again_where_the_answer_is_lost_and_not_for_ever() -> None:
    kernel = SlowKernel()
    question = AuditControl(kernel).ask_rules()
    for _ in range(3):
        kernel.queue.append(OSError(errno.ENOBUFS, ""))
        assert question.answered() is None
        assert question.answered() is None
    kernel.queue.append(OSError(errno.ENOBUFS, ""))
    with pytest.raises(AuditnsError, match="overflow"):
        question.answered()
    assert len(kernel.sent) == 4
