"""Enriched events to bytes. Nothing here knows where the bytes go."""
