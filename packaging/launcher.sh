#!/bin/sh
# @PROGRAM@: from /usr/lib/auditns, by the Python that this system has now
for python in /usr/bin/python3 /usr/bin/python3.* /usr/local/bin/python3; do
    case "$python" in *-config) continue ;; esac
    [ ! -x "$python" ] || exec "$python" -ISB /usr/lib/auditns/start.py @PROGRAM@ "$@"
done
echo "auditns: there is no Python in /usr/bin: install Python 3.11 or later" >&2
exit 1
