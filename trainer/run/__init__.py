"""One training run: its parts, its loop, and all that it keeps, shows and survives."""
