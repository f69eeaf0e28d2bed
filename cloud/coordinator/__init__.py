"""Load, decide, save: every operation is one plain function in one transaction."""
