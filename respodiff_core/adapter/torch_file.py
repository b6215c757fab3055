"""A file of `torch.save` from a stranger: its pickle is read as data, and nothing in it is called.

torch's own restricted loading takes the sizes that a file claims for true, unpacks what was packed small, and in some
versions reads past what is there. Here the few instructions that a dictionary of tensors needs are followed by hand,
and only the tensors that are asked for are read.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from ..plain_text import quoted

_DTYPES = {
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch DoubleStorage": torch.float64,
}
_PICKLE_LIMIT = 1 << 16  # bytes; the reference code's have some hundred
_ENDS = 56 + 20 + 22  # bytes of a zip's end: its larger form, where that one lies, its plain form
_DIRECTORY_LIMIT = 1 << 20  # bytes of the list of the file's parts


class TorchFileError(ValueError):
    """The file is no plain dictionary of tensors; the message is a part of a sentence and says why."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the file describes it: `storage` names the record of its numbers, which begin at `offset`."""

    storage: str
    dtype: torch.dtype | None
    numbers: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class TorchFile:
    """An open file of `torch.save`: `tensors` by name; their numbers are read when asked for.

    Raises TorchFileError for anything else than a dictionary of tensors, and OSError as the file system does.
    """

    def __init__(self, path: Path) -> None:
        _check_directory(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
            raise TorchFileError(f"it was not written by torch.save ({quoted(str(error))})") from error
        try:
            self._records = self._zip.infolist()
            pickled = [record for record in self._records if record.filename.count("/") == 1]
            pickled = [record for record in pickled if record.filename.endswith("/data.pkl")]
            if len(pickled) != 1:
                raise TorchFileError("it was not written by torch.save")
            self._root = pickled[0].filename.removesuffix("data.pkl")
            self.tensors = tensors_of(self._read("data.pkl", _PICKLE_LIMIT))
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._zip.close()

    def tensor(self, name: str) -> torch.Tensor:
        """The floating point tensor of that name, on the CPU. Raises TorchFileError where its numbers are not there."""
        stored = self.tensors[name]
        if stored.dtype is None:
            raise TorchFileError(f"{quoted(name)} does not consist of floats")
        whole = prod(stored.shape)
        size = stored.dtype.itemsize
        if stored.stride != _contiguous(stored.shape) or stored.offset + whole > stored.numbers or not whole:
            raise TorchFileError(f"{quoted(name)} does not lie in one piece")
        data = self._read(f"data/{stored.storage}", stored.numbers * size)
        if len(data) != stored.numbers * size:
            raise TorchFileError(f"{quoted(name)} should take {stored.numbers * size} bytes and has {len(data)}")
        numbers = torch.frombuffer(bytearray(data), dtype=stored.dtype, count=whole, offset=stored.offset * size)
        return numbers.reshape(stored.shape)

    def _read(self, name: str, limit: int) -> bytes:
        """A record that lies in the file as it is, not packed: so it takes no more memory than the file has bytes."""
        found = [record for record in self._records if record.filename == self._root + name]
        if len(found) != 1:
            raise TorchFileError(f"it has no part {quoted(name)}, or more than one")
        (record,) = found
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise TorchFileError(f"its part {quoted(name)} is packed")
        if record.file_size > limit:
            raise TorchFileError(f"its part {quoted(name)} is larger than what it should hold")
        try:
            return self._zip.read(record)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError) as error:
            raise TorchFileError(f"its part {quoted(name)} cannot be read ({quoted(str(error))})") from error


def _check_directory(path: Path) -> None:
    """Raise TorchFileError for a list of parts that would take many times its bytes in memory, or that has no end."""
    with open(path, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(size - _ENDS, 0))
        end = file.read().rjust(_ENDS)
    large, at, plain = end[:-42], end[-42:-22], end[-22:]
    if not plain.startswith(b"PK\5\6") or plain[20:] != b"\0\0":
        raise TorchFileError("it was not written by torch.save, or is cut short")
    length = plain[12:16]
    if at.startswith(b"PK\6\7"):
        # The larger form of the end counts for zipfile, where it looks like one. Only here it looks like one to all.
        if not large.startswith(b"PK\6\6") or int.from_bytes(at[8:16], "little") != size - _ENDS:
            raise TorchFileError("it was not written by torch.save, or is damaged")
        length = large[40:48]
    if int.from_bytes(length, "little") > _DIRECTORY_LIMIT:
        raise TorchFileError("it has too many parts")


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[place + 1 :]) for place in range(len(shape)))


@dataclass(frozen=True)
class _Storage:
    """A record of numbers, as a tensor of the pickle refers to it."""

    key: str
    dtype: torch.dtype | None
    numbers: int


@dataclass(frozen=True)
class _Named:
    """Something of a module that the pickle asks for; it is never fetched."""

    name: str


_MARK = object()
_TABLE = _Named("collections OrderedDict")
_TENSOR = _Named("torch._utils _rebuild_tensor_v2")
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_GIVEN = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def tensors_of(pickled: bytes) -> dict[str, StoredTensor]:
    """The tensors of a pickled dictionary by name. Raises TorchFileError for every other pickle."""
    try:
        return _Reader(pickled).read()
    except TorchFileError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise TorchFileError(f"its pickle is damaged ({quoted(str(error))})") from error


class _Reader:
    """Follows a pickle's instructions on a stack of plain values; an instruction that tensors do not need ends it."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = io.BytesIO(pickled)
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> dict[str, StoredTensor]:
        for code, argument, _ in pickletools.genops(self._pickled):
            if code.name == "STOP":
                return self._result()
            self._follow(code.name, argument)
        raise TorchFileError("its pickle has no end")

    def _result(self) -> dict[str, StoredTensor]:
        (loaded,) = self._stack
        if not isinstance(loaded, dict) or not all(isinstance(one, StoredTensor) for one in loaded.values()):
            raise TorchFileError("it is no dictionary of tensors")
        return loaded

    def _follow(self, code: str, argument: Any) -> None:
        stack = self._stack
        if code in _CONSTANTS:
            stack.append(_CONSTANTS[code]())
        elif code in _GIVEN:
            stack.append(argument)
        elif code in _TUPLES:
            count = _TUPLES[code]
            stack[-count:] = [self._tuple(stack[-count:])]
        elif code == "TUPLE":
            stack.append(self._tuple(self._marked()))
        elif code in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif code == "GLOBAL":
            stack.append(_Named(argument))
        elif code == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif code == "REDUCE":
            arguments = stack.pop()
            stack.append(_called(stack.pop(), arguments))
        elif code in ("SETITEM", "SETITEMS"):
            self._set(self._marked() if code == "SETITEMS" else [stack.pop(-2), stack.pop()])
        elif code == "BUILD":
            _check_attributes(stack.pop(), stack[-1])
        elif code != "PROTO":
            raise TorchFileError(f"it is no dictionary of tensors (its pickle has {code})")

    def _marked(self) -> list[Any]:
        """What was put on the stack since the last mark."""
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _tuple(self, values: list[Any]) -> tuple[Any, ...]:
        if any(value is _MARK for value in values) or len(values) > 16:
            raise TorchFileError("its pickle is damaged")
        return tuple(values)

    def _set(self, items: list[Any]) -> None:
        table = self._stack[-1]
        if not isinstance(table, dict) or len(items) % 2:
            raise TorchFileError("its pickle is damaged")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise TorchFileError("it is no dictionary of names")
            table[key] = value


def _called(what: Any, arguments: Any) -> Any:
    if what == _TABLE and arguments == ():
        return {}
    if what == _TENSOR:
        storage, offset, shape, stride, *_ = arguments
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise TorchFileError("a tensor of it has no numbers")
        if not all(map(_is_size, (offset, storage.numbers, *shape, *stride))):
            raise TorchFileError("a tensor of it has no size")
        return StoredTensor(storage.key, storage.dtype, storage.numbers, offset, shape, stride)
    raise TorchFileError(f"its pickle asks for {quoted(getattr(what, 'name', what))}")


def _storage(described: Any) -> _Storage:
    kind, stored, key, _device, numbers = described
    if kind != "storage" or not isinstance(stored, _Named) or not isinstance(key, str):
        raise TorchFileError("a tensor of it is stored in an unknown way")
    return _Storage(key, _DTYPES.get(stored.name), numbers)


def _check_attributes(state: Any, of: Any) -> None:
    """What is set on a dictionary of modules' tensors is which versions of the modules wrote them."""
    if not isinstance(of, dict) or not isinstance(state, dict) or state.keys() - {"_metadata"}:
        raise TorchFileError("it is no dictionary of tensors (its pickle has BUILD)")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48
