"""The log is asked: what happened, in which containers, and what one of them did.

Answers rest on the records in the text; no process, kernel or runtime is asked. Text goes through in windows: one that
lacks the bytes that a match must have is not parsed (search.py); of the others, whole events are tested by the values
of their fields, each distinct one once (conditions.py).
"""
