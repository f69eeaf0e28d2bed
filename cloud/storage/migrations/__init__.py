"""Versions of the database, applied by `cloud.storage.upgrade`."""
