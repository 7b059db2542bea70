"""The archive on a large corpus of several recorded workloads, beside grep, DuckDB and ausearch."""
