"""Bytes to events and records. Pure: nothing here opens, blocks or logs."""
