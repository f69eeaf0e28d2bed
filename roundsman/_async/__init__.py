"""The client, written once: `tests/kit/unasync.py` makes the blocking twin from these files."""
