"""The blocking client, made from `_async` by `tests/kit/unasync.py`."""
