"""auparse from Python on the same file: parse every event, look at every record's type. Needs python3-audit."""

import sys

import auparse

parser = auparse.AuParser(auparse.AUSOURCE_FILE, sys.argv[1])
records = 0
while parser.parse_next_event():
    records += parser.get_num_records()
print(records)
