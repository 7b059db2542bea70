"""Which container did it? Linux audit, enriched with container identifiers from user space."""

__version__ = "0.2.0"
