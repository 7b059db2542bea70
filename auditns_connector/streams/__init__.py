"""Streams: each container its own audit stream, its own backlog, its own readers."""
