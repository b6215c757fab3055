"""Damages small base models at random and opens them: each loads, and predicts finite numbers, or is refused in a
sentence. `python tests/fuzz/damaged_bases.py --runs 10000` prints how many; `--seed N --runs 1` repeats one.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from respodiff.trainer.base.base_model_error import BaseModelError
from respodiff.trainer.base.model import load_base
from respodiff.trainer.toyworld import networks
from safetensors.torch import save_file
from small_bases import PROMPTS, Networks, with_few_words_and_layers

SLOW = 20.0  # seconds; opening one takes a tenth of one
KINDS = ("sd15", "sdxl")
STRANGE: list[Any] = [
    None, True, -1, 0, 1, 3, 10**9, 0.5, 1e308, float("nan"), "", "x", "epsilon", [], [0], [1, 2], [[]], {}, {"a": 1},
]  # fmt: skip


def damage_json(path: Path, chance: random.Random) -> str:
    text = path.read_text("utf-8")
    if chance.random() < 0.15:
        content = text.encode()
        cut = content[: chance.randrange(len(content))]
        path.write_bytes(
            chance.choice([cut, b"", b"null", b"[]", b"3", bytes(chance.randbytes(40)), b"\xef\xbb\xbf" + content])
        )
        return f"{path.name}: other content"
    values = json.loads(text)
    key = chance.choice(sorted(values))
    if chance.random() < 0.3:
        del values[key]
        path.write_text(json.dumps(values))
        return f"{path.name}: without {key}"
    values[key] = chance.choice(STRANGE)
    path.write_text(json.dumps(values))
    return f"{path.name}: {key} = {values[key]!r}"


def damage_tensors(path: Path, chance: random.Random) -> str:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    name = chance.choice(names)
    how = chance.randrange(9)
    if how == 0:
        del header[name]
    elif how == 1:
        header[name + chance.choice([".x", "x", "."])] = header.pop(name)
    elif how == 2:
        header[name]["dtype"] = chance.choice(["F16", "F32", "BF16", "F8_E4M3", "I64", "U8", "BOOL", "F4", "x"])
    elif how == 3:
        shape = header[name]["shape"]
        header[name]["shape"] = chance.choice(
            [shape[::-1], [*shape, 1], shape[1:], [-1], [2**40, 2**40], [], "x", None]
        )
    elif how == 4:
        header[name]["data_offsets"] = chance.choice([[0, 0], [0, len(data)], [-4, 4], [len(data), len(data) + 4], [8]])
    elif how == 5:  # two tensors exchange their numbers
        other = chance.choice(names)
        header[name], header[other] = header[other], header[name]
    elif how == 6:
        prefix = chance.choice(["", "model.", "module.", "transformer.", "text_model."])
        header = {(prefix + one if one != "__metadata__" else one): entry for one, entry in header.items()}
    if how < 7:
        written = json.dumps(header).encode()
        path.write_bytes(len(written).to_bytes(8, "little") + written + data)
    elif how == 7:
        path.write_bytes(content[: chance.randrange(len(content))])
    else:
        flipped = bytearray(content)
        for _ in range(chance.randrange(1, 20)):
            flipped[chance.randrange(8 + length if chance.random() < 0.7 else len(flipped))] = chance.randrange(256)
        path.write_bytes(flipped)
    return f"{path.name}: {name}, damage {how}"


def damage_file(path: Path, chance: random.Random) -> str:
    how = chance.randrange(4)
    path.unlink()
    if how == 1:
        path.write_bytes(b"")
    elif how == 2:
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n")
    elif how == 3:
        path.mkdir()
    return f"{path.name}: {('gone', 'empty', 'a pointer', 'a folder')[how]}"


def damaged(sound: Path, place: Path, chance: random.Random) -> str:
    """A copy of the model at `place` with one or two damages; what they are."""
    if sound.is_file():
        shutil.copyfile(sound, place)
        files = [place]
    else:
        shutil.copytree(sound, place)
        files = [path for path in place.rglob("*") if path.is_file()]
    done = []
    for path in chance.sample(files, min(len(files), chance.choice((1, 1, 2)))):
        ways: list[Callable[[Path, random.Random], str]] = [damage_file]
        if path.suffix == ".json" and path.stat().st_size < 20_000:
            ways = [damage_json] * 9 + ways
        if path.suffix == ".safetensors":
            ways = [damage_tensors] * 9 + ways
        done.append(chance.choice(ways)(path, chance))
    return "; ".join(done)


def outcome(path: Path) -> str:
    """loaded, or refused. Raises whatever else comes, and AssertionError for numbers that are none."""
    try:
        base = load_base(path)
        condition = base.encode_prompts(PROMPTS)
        z = torch.zeros(2, 4, 8, 8)
        assert base.denoiser.predict(z, torch.tensor([1, 981]), condition).isfinite().all()
        base.require_pictures()
        assert base.alphas_cumprod.isfinite().all()
    except BaseModelError:
        return "refused"
    return "loaded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as tmp, pytest.MonkeyPatch.context() as patch:
        tokenizer = networks.write_tokenizer(Path(tmp, "tokenizer"))
        with_few_words_and_layers(patch, tokenizer)
        sound = []
        for kind in KINDS:
            parts = Networks(kind, tokenizer)
            sound += [Path(tmp, f"{kind}.safetensors"), parts.save(Path(tmp, kind))]
            save_file(parts.checkpoint(), sound[-2])
        for seed in range(arguments.seed, arguments.seed + arguments.runs):
            chance = random.Random(seed)
            model = chance.choice(sound)
            place = Path(tmp, f"m{model.suffix}")
            what, began = damaged(model, place, chance), time.monotonic()
            try:
                found = outcome(place)
            except Exception:
                traceback.print_exc()
                found = "failed"
            if time.monotonic() - began > SLOW:
                found = "slow"
            if found in ("failed", "slow"):
                print(f"seed {seed}, {model.name}: {found}: {what}", flush=True)
            outcomes[found] += 1
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    print(", ".join(f"{count} {name}" for name, count in outcomes.most_common()))
    sys.exit(bool(outcomes["failed"] + outcomes["slow"]))


if __name__ == "__main__":
    main()
