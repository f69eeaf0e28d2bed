"""Runs attempts: a worker per device that has work; journal first, then act."""
