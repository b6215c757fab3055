"""The adapter file and what is in it."""
