"""A training run: its loop, saved state, progress display, previews and recovery from errors."""
