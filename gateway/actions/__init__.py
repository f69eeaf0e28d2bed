"""One file for each namespace of steps."""
