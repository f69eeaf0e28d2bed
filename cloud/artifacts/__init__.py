"""Immutable files, addressed by their sha256."""
