"""The truth bench: how often audit events are attributed to the right container, for us and for a peer."""
