"""``auditns show``, ``diff`` and ``report``: what one container did, by the log alone."""

import json
from typing import Any

import pytest

from auditns_connector.errors import AuditnsError, ConfigError
from auditns_connector.query import life as lives
from auditns_connector.query.facts import facts_of
from tests.unit.queries import BASE, BOOT, DB, WEB, Ask, asked, by_number, call, event, executed, info, opened, sample

__all__ = ["asked"]


def shown(asked: Ask, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked(*words, "--json"))
    return found


def test_the_life_of_a_container(asked: Ask) -> None:
    web = shown(asked, "show", "web")
    facts = web["facts"]
    assert (facts["contid"], facts["image"], facts["events"]) == (WEB, "nginx:1", "7")
    assert [(one["process"], one["pid"], one["failed"]) for one in web["processes"]] == [
        ("/bin/sh -c run me", "50", "1"), ("bash", "70", "0"), ("?", "77", "0"),
    ]  # fmt: skip
    assert [one["who"] for one in web["entries"]] == ["/usr/bin/nsenter of user 1000 (setns, session)"]
    assert web["processes"][1]["entry"] == web["entries"][0]["who"]
    assert [one["program"] for one in web["execs"]] == ["/bin/sh -c run me", "bash"]
    assert [one["file"] for one in web["read"]] == ["/etc/shadow"]
    assert [(one["file"], one["failed"]) for one in web["written"]] == [("/tmp/x", "1")]
    assert [(one["address"], one["call"]) for one in web["network"]] == [("10.0.0.5:443", "connect")]
    assert [(one["what"], one["error"], one["key"]) for one in web["failures"]] == [("openat", "ENOENT", "open")]
    assert [(one["call"], one["who"], one["whom"]) for one in web["crossing"]] == [("kill", "web pid=50", "db pid=61")]
    assert [(one["user"], one["record"]) for one in web["logins"]] == [("1000", "USER_LOGIN")]
    assert [(one["source"], one["count"]) for one in web["losses"]] == [("perf", "7")]
    assert "lost" in web["notes"][0]


@pytest.mark.parametrize(
    "words", [("show", "web"), ("show", "db"), ("diff", "web", "db"), ("report",), ("containers",)]
)
def test_how_the_log_spells_the_types_of_records_changes_nothing(asked: Ask, words: tuple[str, ...]) -> None:
    named = asked(*words, "--json")
    people = asked("search", "--format", "pretty")
    asked.path.write_text(by_number(sample()))
    assert asked(*words, "--json") == named
    assert asked("search", "--format", "pretty") == people


def test_a_container_by_contid_and_by_the_beginning_of_its_id(asked: Ask) -> None:
    assert shown(asked, "show", WEB) == shown(asked, "show", "webw") == shown(asked, "show", "web")


def test_what_is_signalled_from_outside_is_told_as_well(asked: Ask) -> None:
    assert [(one["who"], one["whom"]) for one in shown(asked, "show", "db")["crossing"]] == [
        ("web pid=50", "db pid=61")
    ]


def test_a_time_of_it(asked: Ask) -> None:
    web = shown(asked, "show", "web", "--since", f"@{BASE + 3}", "--until", f"@{BASE + 9}.5")
    assert (web["facts"]["events"], web["losses"], web["read"]) == ("3", [], [])


def test_processes_are_a_tree(asked: Ask) -> None:
    asked.path.write_text(
        info(9001, 0, WEB, "web")
        + executed(1, 1, 100, 1, "init", ours=WEB)
        + executed(2, 2, 101, 100, "worker", ours=WEB)
        + executed(3, 3, 102, 101, "child", ours=WEB)
        + executed(4, 4, 103, 100, "second", ours=WEB)
    )
    lines = [line.rstrip() for line in asked("show", "web").splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith("Processes")) + 2
    names = [line.split("  1")[0] for line in lines[start : start + 4]]
    assert [name.rstrip() for name in names] == ["  init", "    worker", "      child", "    second"]


def test_a_pid_that_came_back_under_another_parent_is_another_process(asked: Ask) -> None:
    asked.path.write_text(
        info(9001, 0, WEB, "web")
        + executed(1, 1, 100, 90, "one", ours=WEB)
        + executed(2, 5, 200, 90, "parent", ours=WEB)
        + executed(3, 6, 100, 200, "two", ours=WEB)
    )
    assert [one["process"] for one in shown(asked, "show", "web")["processes"]] == ["one", "parent", "two"]


def test_namespaces_over_time(asked: Ask) -> None:
    ns = (
        f"type=NS_CHANGE msg=audit({BASE + 3}.000:9100): pid=50 uid=0 auid=5 ses=1 type=40000000 reason=setns "
        f'old_snum=5 snum=9 comm="sh" contid={WEB} dev=00:04 old-ino=4026531840 ino=4026532500 res=1\n'
    )
    asked.path.write_text(info(9001, 0, WEB, "web") + executed(1, 1, 50, 1, "sh", ours=WEB) + ns)
    (one,) = shown(asked, "show", "web")["namespaces"]
    assert (one["pid"], one["what"]) == ("50", "net namespace 4026531840 -> 4026532500 (setns)")


def test_what_is_remembered_is_bounded_and_the_rest_told(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "MOST", 3)
    monkeypatch.setattr(lives, "MOST_MARKS", 2)
    text = info(9001, 0, WEB, "web") + "".join(opened(i, i, 50 + i, f"/x{i}", ours=WEB) for i in range(1, 11))
    asked.path.write_text(text)
    web = shown(asked, "show", "web")
    assert (len(web["processes"]), web["processes_dropped"], len(web["read"]), web["read_dropped"]) == (3, 7, 3, 7)
    assert any("not in the timeline" in note for note in web["notes"])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["show", "nobody"], "no record tells"),
        (["show", "7"], "nothing in the text"),
        (["diff", "other", "--siblings"], "another"),
    ],
)
def test_who_is_not_there(asked: Ask, words: list[str], what: str) -> None:
    with pytest.raises(AuditnsError, match=what):
        asked(*words)


def test_a_name_that_several_have(asked: Ask) -> None:
    asked.path.write_text(sample() + info(9050, 1, "77", "web").replace("webwebweb", "another"))
    with pytest.raises(AuditnsError, match=r"2 containers.*1001.*77"):
        asked("show", "web")


def test_for_people_long_tables_are_cut_and_nothing_is_obeyed(asked: Ask) -> None:
    evil = b"\x1b[2Jx".hex().upper()
    many = "".join(executed(i, i, 50, 1, f"p{i}", ours=WEB) for i in range(1, 40))
    asked.path.write_text(info(9001, 0, WEB, "web") + many + opened(99, 99, 50, "y", ours=WEB).replace('"y"', evil))
    text = asked("show", "web")
    assert "19 more (--all)" in text
    assert "more (--all)" not in asked("show", "web", "--all")
    assert "\\x1b[2Jx" in text
    assert "\x1b" not in text


# -- diff


def test_what_only_one_did(asked: Ask) -> None:
    both = shown(asked, "diff", "web", "db")
    assert [one["what"] for one in both["first_read"]] == ["/etc/shadow"]
    assert [one["what"] for one in both["second_read"]] == ["/etc/hostname"]
    assert [one["what"] for one in both["first_addresses"]] == ["10.0.0.5:443"]
    assert {one["what"] for one in both["first_programs"]} == {"/bin/bash"}
    assert "openat ENOENT" in {one["what"] for one in both["first_failures"]}
    assert both["second_programs"] == []


def test_against_its_siblings(asked: Ask) -> None:
    both = shown(asked, "diff", "web", "--siblings")
    assert both["title"] == "web and 1 others of its image"
    assert [one["what"] for one in both["second_read"]] == ["/etc/hostname"]
    assert shown(asked, "diff", "--siblings", "web") == both


def test_diff_wants_two_that_are_not_the_same(asked: Ask) -> None:
    for words in (["web", "web"], ["web", WEB]):
        with pytest.raises(ConfigError, match="same container"):
            asked("diff", *words)


def test_diff_wants_two(asked: Ask) -> None:
    with pytest.raises(ConfigError, match="two containers"):
        asked("diff", "web", files=())


# -- report


def test_a_report(asked: Ask) -> None:
    found = shown(asked, "report")
    facts = found["facts"]
    assert (facts["events"], facts["containers"], facts["losses_told"]) == ("15", "3", "1")
    assert [(one["container"], one["events"], one["failed"]) for one in found["containers"]] == [
        ("web", "9", "1"), ("db", "3", "0"), ("host", "2", "1"), ("other", "1", "0"),
    ]  # fmt: skip
    assert {(one["container"], one["program"]) for one in found["execs"]} == {
        ("web", "/bin/sh"), ("web", "/bin/bash"), ("db", "/bin/sh"),
    }  # fmt: skip
    assert [(one["container"], one["key"]) for one in found["failures"]] == [("host", "open"), ("web", "open")]
    assert [(one["container"], one["user"], one["program"]) for one in found["logins"]] == [
        ("web", "1000", "/usr/sbin/sshd")
    ]
    assert [(one["call"], one["who"], one["whom"], one["times"]) for one in found["crossing"]] == [
        ("kill", "web", "db", "1")
    ]
    assert [one["id"] for one in found["entries"]] == [f"{BOOT}:70:5"]
    assert [one["source"] for one in found["losses"]] == ["perf"]


def space(serial: int, kind: str, who: str, snum: str, reason: str = "", pid: int = 50) -> str:
    contid = f" contid={who}" if who else ""
    why = f" reason={reason} old_snum=5" if reason else ""
    return (
        f'type={kind} msg=audit({BASE + serial}.000:{serial}): pid={pid} uid=0 type=40000000 comm="x"{contid} dev=0:4 '
        f"snum={snum} ino={serial}{why} res=1\n"
    )


def test_a_report_tells_who_has_gone_into_the_namespaces_of_others(asked: Ask) -> None:
    asked.path.write_text(
        info(1, 1, WEB, "web") + info(2, 2, DB, "db")
        + space(3, "NS_INIT", "", "a0", pid=0)
        + space(4, "NS_INIT", WEB, "b1") + space(5, "NS_CHANGE", DB, "c1", "clone") + space(6, "NS_INIT", "", "d1")
        + space(7, "NS_CHANGE", WEB, "b1", "setns")  # its own
        + space(8, "NS_CHANGE", WEB, "c1", "setns") + space(9, "NS_CHANGE", WEB, "c1", "setns")
        + space(10, "NS_CHANGE", DB, "a0", "setns")
        + space(11, "NS_CHANGE", DB, "d1", "setns")  # nobody knows whose
        + space(12, "NS_CHANGE", "", "b1", "setns")  # of the host's, which is an entry or nothing
        + space(13, "NS_CHANGE", DB, "?", "setns") + space(14, "NS_CHANGE", WEB, "e1", "setns")
    )  # fmt: skip
    crossing = shown(asked, "report")["crossing"]
    assert [(one["call"], one["who"], one["whom"], one["times"]) for one in crossing] == [
        ("setns net", "web", "db", "2"), ("setns net", "db", "host", "1"),
    ]  # fmt: skip


def test_a_report_of_a_part(asked: Ask) -> None:
    found = shown(asked, "report", "--contid", DB)
    assert found["facts"]["events"] == "4"  # the signal went there
    assert [one["container"] for one in found["execs"]] == ["db"]


# -- what one event tells


def test_which_files_are_changed() -> None:
    def files(call: int, *, flags: str = "0", nametype: str = "NORMAL") -> tuple[tuple[str, bool], ...]:
        main = {
            "type": "SYSCALL",
            "arch": "c000003e",
            "syscall": call,
            "success": "yes",
            "pid": 1,
            "a1": flags,
            "a2": flags,
        }
        path = {"type": "PATH", "name": "/x", "nametype": nametype}
        return facts_of({"time": "1.000", "serial": 1, "records": [main, path]}).files

    assert files(257) == files(2) == (("/x", False),)
    assert files(257, flags="80241") == files(2, flags="1") == files(257, flags="442") == (("/x", True),)
    assert files(87) == files(82) == files(257, nametype="CREATE") == (("/x", True),)
    assert files(59) == ()


def test_openat2_says_its_flags_in_a_record_of_its_own(asked: Ask) -> None:
    flagged = "OPENAT2 oflag=0100001 mode=0 resolve=0x0"
    text = event(1, 1, call(437, 5), flagged, 'PATH item=0 name="/x" nametype=NORMAL', ours=WEB)
    asked.path.write_text(info(9001, 0, WEB, "web") + text)
    assert [one["file"] for one in shown(asked, "show", "web")["written"]] == ["/x"]
