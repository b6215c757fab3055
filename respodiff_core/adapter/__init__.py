"""The adapter file and its contents."""

from ..names import SUFFIX
from .adapter import Adapter, merge, peek, read, write

__all__ = ["SUFFIX", "Adapter", "merge", "peek", "read", "write"]
