"""Changes that keep a file's frame whole, so that fuzzing gets past the first check."""

from __future__ import annotations

import io
import json
import random
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutate = Callable[[bytes, int], bytes]
"""Changes bytes at random, up to a length."""

_VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 2**31, 2**53, 2**63, 2**64, 10**30, 1.5, 1e308, -0.0),
    *(
        "",
        "a",
        "../a",
        "a.ram",
        "\x00\x1b[31m",
        "\u202e",
        "<b>",
        "1",
        "F32",
        "F16",
        "BF16",
        "I8",
        "sd15",
        "NaN",
        "[]",
        "x" * 300,
    ),
    *([], {}, [[]], [0, 0], [1, 1, 1], [0, 1 << 62, 4], {"name": "a"}, [{"name": "a"}]),
)


def adapter(data: bytes, most: int, seed: int, mutate: Mutate) -> bytes:
    """Changes one place of the header, its text, or the tensors; the header's length is put right."""
    chance = random.Random(seed)
    length = int.from_bytes(data[:8], "little")
    text, tensors = data[8 : 8 + length], data[8 + length :]
    if chance.random() < 0.2 or not text:
        return mutate(data, most)
    if chance.random() < 0.2:
        text = mutate(text, len(text) + 64)
    elif chance.random() < 0.1:
        tensors = mutate(tensors, len(tensors) + 16)
    else:
        try:
            text = json.dumps(_changed_header(json.loads(text), chance)).encode()
        except (ValueError, KeyError, RecursionError, AttributeError, TypeError):
            text = mutate(text, len(text) + 64)
    return (len(text).to_bytes(8, "little") + text + tensors)[:most]


def _changed_header(header: Any, chance: random.Random) -> Any:
    """The header with one place changed, often inside of the JSON that its metadata hold."""
    if chance.random() < 0.5:
        concepts = json.loads(header["__metadata__"]["respodiff.concepts"])
        header["__metadata__"]["respodiff.concepts"] = json.dumps(_changed(concepts, chance))
        return header
    return _changed(header, chance)


def _changed(value: Any, chance: random.Random) -> Any:
    if isinstance(value, (dict, list)) and value and chance.random() < 0.85:
        place = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        what = chance.random()
        if what < 0.1:
            del value[place]
        elif what < 0.2 and isinstance(value, dict):
            value[chance.choice([str(place) + "x", "sam", "woman.ram", "woman.sam.fc1.weight", "a" * 70])] = value.pop(
                place
            )
        elif what < 0.3 and isinstance(value, list):
            value.insert(place, value[place])
        else:
            value[place] = _changed(value[place], chance)
        return value
    if isinstance(value, int) and chance.random() < 0.6:
        return value + chance.choice([-1, 1, 2, 4, 64, -value, value])
    return chance.choice(_VALUES)


def torch_file(data: bytes, most: int, seed: int, mutate: Mutate) -> bytes:
    """Changes the pickle, a part, or how the parts are put together; checksums are put right."""
    chance = random.Random(seed)
    listing, gap, whole = data.partition(b"\0\0\0\0")
    if chance.random() < 0.1:
        return mutate(data, most)
    if chance.random() < 0.1:
        return (mutate(listing, len(listing) + 64).replace(gap, b"") + gap + whole)[:most]
    try:
        with zipfile.ZipFile(io.BytesIO(whole)) as before:
            parts = [(part.filename, before.read(part)) for part in before.infolist()]
        place = chance.randrange(len(parts))
        if chance.random() < 0.7:
            place = next((i for i, (name, _) in enumerate(parts) if name.endswith("data.pkl")), place)
        name, content = parts[place]
        what = chance.random()
        if what < 0.75:
            parts[place] = name, mutate(content, len(content) + 64)
        elif what < 0.8:
            parts.append((name, content))
        elif what < 0.85:
            del parts[place]
        elif what < 0.9:
            parts[place] = mutate(name.encode(), 60).decode("utf-8", "replace"), content
        after = io.BytesIO()
        with zipfile.ZipFile(after, "w", zipfile.ZIP_DEFLATED if what > 0.97 else zipfile.ZIP_STORED) as file:
            for name, content in parts:
                file.writestr(name, content)
        return (listing + gap + after.getvalue())[:most]
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        IndexError,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
    ):
        return mutate(data, most)


MUTATORS = {"adapter": adapter, "torch_file": torch_file}
