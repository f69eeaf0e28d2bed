"""Pure rules of the edge: no I/O, no clock, no chance."""
