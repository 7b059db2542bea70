"""The tables of an archive's catalogue; catalogue.py says what they are."""

from typing import Final, NamedTuple

SCHEMA: Final = """
CREATE TABLE segments (seq INTEGER PRIMARY KEY, previous TEXT NOT NULL, digest TEXT NOT NULL, first_ms INTEGER,
    last_ms INTEGER, length INTEGER NOT NULL, bytes INTEGER NOT NULL, events INTEGER NOT NULL, records INTEGER NOT NULL,
    blocks INTEGER NOT NULL, sealed_ms INTEGER NOT NULL, host TEXT NOT NULL, boot TEXT NOT NULL);
CREATE TABLE pruned (seq INTEGER PRIMARY KEY, previous TEXT NOT NULL, digest TEXT NOT NULL, last_ms INTEGER,
    reason TEXT NOT NULL);
CREATE TABLE holders (number INTEGER PRIMARY KEY, holder INTEGER NOT NULL, node TEXT NOT NULL, contid TEXT NOT NULL,
    runtime TEXT, full_id TEXT, name TEXT, pod TEXT, pod_ns TEXT, image TEXT, first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL, events INTEGER NOT NULL, records INTEGER NOT NULL, execs INTEGER NOT NULL,
    failures INTEGER NOT NULL, UNIQUE (holder, node, contid));
CREATE TABLE holdings (holder INTEGER NOT NULL, segment INTEGER NOT NULL, grp INTEGER NOT NULL, low INTEGER NOT NULL,
    high INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, PRIMARY KEY (holder, segment))
    WITHOUT ROWID;
CREATE INDEX holdings_of ON holdings (segment, grp, holder);
CREATE TABLE aggregates (holder INTEGER NOT NULL, kind INTEGER NOT NULL, value TEXT NOT NULL, count INTEGER NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL);
CREATE UNIQUE INDEX aggregates_of ON aggregates (holder, kind, value);
CREATE TABLE serials (segment INTEGER NOT NULL, node TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,
    events INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL);
CREATE INDEX serials_of ON serials (segment);
CREATE TABLE parts (head TEXT NOT NULL, segment INTEGER NOT NULL, at INTEGER NOT NULL, start INTEGER NOT NULL,
    length INTEGER NOT NULL, path TEXT NOT NULL, dev INTEGER NOT NULL, ino INTEGER NOT NULL);
CREATE INDEX parts_of ON parts (head);
"""


class Number(NamedTuple):
    """A column of numbers."""

    number: int


class Holding(NamedTuple):
    """A group of a segment, and the number of its holder."""

    grp: int
    holder: int
