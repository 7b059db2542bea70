"""Rotated text sealed into segments, grouped by container, with an index and a catalogue."""
