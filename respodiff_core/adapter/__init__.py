"""The adapter file and what is in it."""

from .adapter import SUFFIX, Adapter, merge, peek, read, write

__all__ = ["SUFFIX", "Adapter", "merge", "peek", "read", "write"]
