"""Whether a rule that is weakened is noticed: ``make mutate``."""
