"""What the C does once more, to be read: each is held against it by differential tests, and no command uses it."""
