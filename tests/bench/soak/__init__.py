"""Whether the table's memory is flat over millions of events."""
