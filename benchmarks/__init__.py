"""Questions about speed, one a file, each beside a reference measured in the same run."""
