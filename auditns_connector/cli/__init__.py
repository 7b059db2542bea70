"""Commands: parse, options, run, and one place for errors."""
