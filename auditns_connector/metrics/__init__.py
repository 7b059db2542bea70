"""What the counters of a running program mean: a verdict for people, OpenMetrics for monitoring. Pure."""
