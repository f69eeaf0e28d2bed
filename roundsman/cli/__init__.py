"""The command line: `roundsman <noun> <verb>`, and the programs by their names."""
