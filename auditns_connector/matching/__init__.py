"""Whether the records of an event say what is asked for: words, conditions, and the values in the text. Pure."""
