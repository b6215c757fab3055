"""The pickle in a file of `torch.save`, parsed as data: only the few codes that a dictionary of tensors needs are
interpreted, and nothing in it is called.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..plain_text import quoted

_DTYPES = {
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch DoubleStorage": torch.float64,
}


class TorchFileError(ValueError):
    """The file is not a plain dictionary of tensors; the message is part of a sentence that states the reason."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file: the record `storage` has `numbers` elements, and the tensor starts at element `offset`."""

    storage: str
    dtype: torch.dtype | None
    numbers: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Storage:
    """A storage that tensors of the pickle refer to."""

    key: str
    dtype: torch.dtype | None
    numbers: int


@dataclass(frozen=True)
class _Global:
    """A global that the pickle refers to; it is never imported."""

    name: str


def _number(length: int, signed: bool = False) -> Callable[[io.BytesIO], int]:
    return lambda pickled: int.from_bytes(_exactly(pickled, length), "little", signed=signed)


def _long(pickled: io.BytesIO) -> int:
    return int.from_bytes(_exactly(pickled, _number(1)(pickled)), "little", signed=True)


def _text(length: int) -> Callable[[io.BytesIO], str]:
    return lambda pickled: _exactly(pickled, _number(length)(pickled)).decode("utf-8", "surrogatepass")


def _global(pickled: io.BytesIO) -> str:
    module, name = (pickled.readline().rstrip(b"\n").decode("ascii", "replace") for _ in range(2))
    return f"{module} {name}"


def _exactly(pickled: io.BytesIO, length: int) -> bytes:
    content = pickled.read(length)
    if len(content) < length:
        raise TorchFileError("its pickle is truncated")
    return content


def _nothing(_: io.BytesIO) -> None:
    return None


_STOP = b"."
_CODES: Mapping[bytes, tuple[str, Callable[[io.BytesIO], Any]]] = {
    b"\x80": ("PROTO", _number(1)),
    b"N": ("NONE", _nothing),
    b"\x88": ("NEWTRUE", _nothing),
    b"\x89": ("NEWFALSE", _nothing),
    b"}": ("EMPTY_DICT", _nothing),
    b"]": ("EMPTY_LIST", _nothing),
    b")": ("EMPTY_TUPLE", _nothing),
    b"(": ("MARK", _nothing),
    b"J": ("BININT", _number(4, signed=True)),
    b"K": ("BININT1", _number(1)),
    b"M": ("BININT2", _number(2)),
    b"\x8a": ("LONG1", _long),
    b"X": ("BINUNICODE", _text(4)),
    b"\x8c": ("SHORT_BINUNICODE", _text(1)),
    b"\x85": ("TUPLE1", _nothing),
    b"\x86": ("TUPLE2", _nothing),
    b"\x87": ("TUPLE3", _nothing),
    b"t": ("TUPLE", _nothing),
    b"q": ("BINPUT", _number(1)),
    b"r": ("LONG_BINPUT", _number(4)),
    b"h": ("BINGET", _number(1)),
    b"j": ("LONG_BINGET", _number(4)),
    b"c": ("GLOBAL", _global),
    b"Q": ("BINPERSID", _nothing),
    b"R": ("REDUCE", _nothing),
    b"s": ("SETITEM", _nothing),
    b"u": ("SETITEMS", _nothing),
    b"b": ("BUILD", _nothing),
}
"""The codes of pickles that a dictionary of tensors has: their names, and how their arguments are read."""

_MARK = object()
_ORDERED_DICT = _Global("collections OrderedDict")
_TENSOR = _Global("torch._utils _rebuild_tensor_v2")
_PARAMETER = _Global("torch._utils _rebuild_parameter")
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE")
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
    """Interprets a pickle with a stack of plain values; opcodes that tensors do not need are refused."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = io.BytesIO(pickled)
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> dict[str, StoredTensor]:
        while (code := self._pickled.read(1)) not in (b"", _STOP):
            if code not in _CODES:
                raise TorchFileError(f"it is not a dictionary of tensors (its pickle has the code {code!r})")
            name, argument = _CODES[code]
            self._follow(name, argument(self._pickled))
        if not code:
            raise TorchFileError("its pickle is truncated")
        return self._result()

    def _result(self) -> dict[str, StoredTensor]:
        (loaded,) = self._stack
        if not isinstance(loaded, dict) or not all(isinstance(one, StoredTensor) for one in loaded.values()):
            raise TorchFileError("it is not a dictionary of tensors")
        return loaded

    def _follow(self, code: str, argument: Any) -> None:
        stack = self._stack
        if code in _CONSTANTS:
            stack.append(_CONSTANTS[code]())
        elif code in _LITERALS:
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
            stack.append(_Global(argument))
        elif code == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif code == "REDUCE":
            arguments = stack.pop()
            stack.append(_called(stack.pop(), arguments))
        elif code in ("SETITEM", "SETITEMS"):
            self._set(self._marked() if code == "SETITEMS" else [stack.pop(-2), stack.pop()])
        elif code == "BUILD":
            _check_attributes(stack.pop(), stack[-1])

    def _marked(self) -> list[Any]:
        """Pop the values above the last mark."""
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _tuple(self, values: list[Any]) -> tuple[Any, ...]:
        if any(value is _MARK for value in values) or len(values) > 16:
            raise TorchFileError("its pickle is damaged")
        return tuple(values)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TorchFileError("its pickle is damaged")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise TorchFileError("its dictionary has keys that are not strings")
            target[key] = value


def _called(what: Any, arguments: Any) -> Any:
    if what == _ORDERED_DICT and arguments == ():
        return {}
    if what == _TENSOR:
        storage, offset, shape, stride, *_ = arguments
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise TorchFileError("one of its tensors has an invalid storage or shape")
        if not all(map(_is_size, (offset, storage.numbers, *shape, *stride))):
            raise TorchFileError("one of its tensors has an invalid size")
        return StoredTensor(storage.key, storage.dtype, storage.numbers, offset, shape, stride)
    if what == _PARAMETER:
        tensor, *_ = arguments
        if not isinstance(tensor, StoredTensor):
            raise TorchFileError("one of its parameters is not a tensor")
        return tensor
    raise TorchFileError(f"its pickle refers to {quoted(getattr(what, 'name', what))}")


def _storage(described: Any) -> _Storage:
    kind, stored, key, _device, numbers = described
    if kind != "storage" or not isinstance(stored, _Global) or not isinstance(key, str):
        raise TorchFileError("one of its tensors has an unknown kind of storage")
    return _Storage(key, _DTYPES.get(stored.name), numbers)


def _check_attributes(state: Any, of: Any) -> None:
    """Allow only `_metadata`, the module versions that torch sets on a state dict."""
    if not isinstance(of, dict) or not isinstance(state, dict) or state.keys() - {"_metadata"}:
        raise TorchFileError("it is not a dictionary of tensors (its pickle has BUILD)")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48
