"""Seeded stories of a fleet whose programs die at any moment, judged by what devices lived."""
