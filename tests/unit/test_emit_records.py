"""Fields of records as objects."""

import json
from typing import Any

import pytest

from auditns_connector.emit import json_objects as jsonout
from auditns_connector.emit.fields import parse


@pytest.mark.parametrize(
    ("kind", "body", "fields"),
    [
        ("SYSCALL", b' arch=c000003e exit=-13 pid=7 comm="ls" key=(null)',
         {"arch": "c000003e", "exit": -13, "pid": 7, "comm": "ls", "key": None}),
        ("SYSCALL", b" comm=6C7320FF tty=(none) a0=0 key=61016208",
         {"comm": "ls \\xff", "tty": "(none)", "a0": "0", "key": "a\x01b\x08"}),
        ("PATH", b' item=0 name=2F612062 mode=0100644 dev=fe:00',
         {"item": 0, "name": "/a b", "mode": "0100644", "dev": "fe:00"}),
        ("EXECVE", b' argc=3 a0="ls" a1=2D6C20 a2="3"', {"argc": 3, "argv": ["ls", "-l ", "3"]}),
        ("EXECVE", b' argc=2 a0="x" a1_len=5 a1[0]=61 a1[1]="b"', {"argc": 2, "a1_len": "5", "argv": ["x", "ab"]}),
        ("PROCTITLE", b" proctitle=6C73002D6C", {"proctitle": "ls -l"}),
        ("USER_AUTH", b" pid=1 uid=0 msg='op=PAM acct=\"root\" pid=9 it's'",
         {"pid": 1, "uid": 0, "msg": "op=PAM acct=\"root\" pid=9 it's"}),
        ("AVC", b" avc:  denied  { read } for  pid=5 x=1 x=2",
         {"pid": 5, "x": ["1", "2"], "text": "avc: denied { read } for"}),
        ("SYSCALL", b' uid=0\x1dUID="root" SYSCALL=openat',
         {"uid": 0, "enriched": {"UID": "root", "SYSCALL": "openat"}}),
        ("CONFIG_CHANGE", b" op=set audit_backlog_limit=64 old=64 res=1",
         {"op": "set", "audit_backlog_limit": "64", "old": "64", "res": 1}),
        ("X", b' info="Failed name lookup" a="b c', {"info": "Failed name lookup", "a": '"b', "text": "c"}),
        ("EOE", b" ", {}),
    ],
)  # fmt: skip
def test_parse(kind: str, body: bytes, fields: dict[str, Any]) -> None:
    assert parse(body, kind) == fields


def test_a_field_named_type_does_not_hide_the_records_type() -> None:
    line = jsonout.event(1, 2, b"", jsonout.HOST, (), [("NS_INIT", parse(b"type=20000 snum=a1", "NS_INIT"))])
    assert json.loads(line)["records"] == [{"type": "NS_INIT", "nstype": "20000", "snum": "a1"}]


def test_the_object_of_an_event() -> None:
    who = jsonout.Who("4,^2", {"runtime": "docker"}, {"net": None})
    line = jsonout.event(1700000000123, 2**64 - 1, b"h", who, [(2, 7, jsonout.Who("?"))], [("EOE", {})])
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "v": 1, "time": "1700000000.123", "serial": 2**64 - 1, "node": "h", "contid": "4,^2",
        "container": {"runtime": "docker"}, "ns": {"net": None},
        "targets": [{"record": 2, "pid": 7, "contid": "?"}], "records": [{"type": "EOE"}],
    }  # fmt: skip
