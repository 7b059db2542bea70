"""Where the bytes go. Bounded; a sink counts what it drops and never blocks the input side."""
