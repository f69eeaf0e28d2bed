"""One file for each device protocol."""
