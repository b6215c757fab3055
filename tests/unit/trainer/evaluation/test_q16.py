"""Q16: its decision, and its prompt embeddings out of files that may be damaged or hostile."""

from __future__ import annotations

import os
import pickle
import struct

import numpy as np
import pytest
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.trainer.evaluation.scorers.clip import load_clip
from respodiff.trainer.evaluation.scorers.q16 import Q16Scorer, load_prompts
from small_judges import DIMENSION, FakeClip, noise, shown, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return load_clip(str(write_clip(tmp_path_factory.mktemp("clip"))), "cpu")


class Evil:
    def __init__(self, function, *args) -> None:
        self._call = function, args

    def __reduce__(self):
        return self._call


def claimed(shape: tuple[int, ...], data: bytes) -> bytes:
    """An array's pickle that claims this shape for these bytes."""

    class Claim:
        def __reduce__(self):
            rebuild, arguments, _ = np.zeros(1).__reduce__()
            return rebuild, arguments, (1, shape, np.dtype("f4"), False, data)

    return pickle.dumps(Claim(), protocol=3)


class TestQ16:
    PROMPTS = np.random.default_rng(0).normal(size=(2, DIMENSION)).astype(np.float16)

    @pytest.mark.parametrize("protocol", [3, 4])
    @pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_the_authors_kind_of_pickle_is_read(self, tmp_path, protocol, dtype, order):
        array = np.asarray(self.PROMPTS, dtype, order=order)
        (tmp_path / "prompts.p").write_bytes(pickle.dumps(array, protocol))
        read = load_prompts(tmp_path / "prompts.p")
        assert read.dtype == np.float32
        assert np.array_equal(read, self.PROMPTS)

    def test_numpys_place_of_old_is_known_too(self, tmp_path):
        content = pickle.dumps(self.PROMPTS, 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        (tmp_path / "prompts.p").write_bytes(content)
        assert np.array_equal(load_prompts(tmp_path / "prompts.p"), self.PROMPTS)

    def test_a_plain_array_is_read(self, tmp_path):
        np.save(tmp_path / "prompts.npy", self.PROMPTS)
        assert np.array_equal(load_prompts(tmp_path / "prompts.npy"), self.PROMPTS)

    def test_a_picture_is_flagged_when_the_second_prompt_is_closer(self):
        fake = FakeClip([(1, 0.1), (0.1, 1), (1, 1)], {})
        scorer = Q16Scorer(fake, np.array([[9, 0], [0, 1]], np.float32))  # their lengths do not matter
        assert scorer.score([shown(noise(0))] * 3) == [{"q16": 0}, {"q16": 1}, {"q16": 0}]

    def test_with_a_real_clip(self, clip):
        images = [noise(0), noise(1)]
        first, second = clip.images(images).numpy()
        scorer = Q16Scorer(clip, np.stack([first, second]))
        assert scorer.score([shown(image) for image in images]) == [{"q16": 0}, {"q16": 1}]

    def test_prompts_of_another_clip_are_refused(self, clip):
        with pytest.raises(RespoDiffError, match="768 numbers, but CLIP's have 16"):
            Q16Scorer(clip, np.ones((2, 768), np.float32))

    def test_prompts_and_clip_make_the_fingerprint(self, clip):
        prints = {Q16Scorer(clip, self.PROMPTS.astype(np.float32) * factor).fingerprint for factor in (1, 2)}
        assert len(prints) == 2
        assert all(clip.fingerprint in one for one in prints)

    @pytest.mark.parametrize("protocol", [0, 4])
    @pytest.mark.parametrize(
        ("evil", "name"),
        [
            (Evil(os.system, "touch pwned"), r"asks for \w+\.system"),
            (Evil(eval, "open('pwned', 'w')"), r"asks for \w+\.eval"),
            (Evil(getattr, "", "join"), r"asks for \w+\.getattr"),
            (Evil(np.save, "pwned", 0), r"asks for numpy\.save"),
            (Evil(np.dtype, "O"), "something else than floats"),
            (Evil(np.ndarray, (1 << 40,)), ""),
        ],
    )
    def test_code_in_a_pickle_never_runs(self, tmp_path, monkeypatch, evil, name, protocol):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "prompts.p").write_bytes(pickle.dumps(evil, protocol))
        with pytest.raises(RespoDiffError, match=f"{name}.*No code in it was executed"):
            load_prompts(tmp_path / "prompts.p")
        assert not list(tmp_path.glob("pwned*"))

    def test_no_more_memory_is_taken_than_a_file_has(self, tmp_path):
        (tmp_path / "prompts.p").write_bytes(claimed((2, 4), bytes(32)))
        with pytest.raises(RespoDiffError, match="zero or not finite"):
            load_prompts(tmp_path / "prompts.p")
        (tmp_path / "prompts.p").write_bytes(claimed((2, 10**15), bytes(32)))
        with pytest.raises(RespoDiffError, match="cannot reshape array of size 8"):
            load_prompts(tmp_path / "prompts.p")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no pickle",
            pickle.dumps(PROMPTS)[:-20],
            pickle.dumps([[0.0] * 4] * 2),
            pickle.dumps(np.array([[1, 2]] * 2)),
            claimed((2, 4), b"\0" * 31),
            b"\x80\x03\x8e" + struct.pack("<Q", 1 << 60) + b".",  # bytes of an exbibyte
            b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".",  # the same, to be written to
            b"\x80\x03Nr" + struct.pack("<I", 0xFFFFFFFF) + b".",  # a memo of 64 GiB
            b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',",
        ],
    )
    def test_damaged_and_boasting_files_are_refused(self, tmp_path, content):
        (tmp_path / "prompts.p").write_bytes(content)
        with pytest.raises(RespoDiffError, match=r"Use `data/ViT-L-14/prompts\.p`"):
            load_prompts(tmp_path / "prompts.p")

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.ones((3, 4), np.float32), r"shape \(3, 4\)"),
            (np.ones(2, np.float32), r"shape \(2,\)"),
            (np.ones((2, 4), np.int64), "int64"),
            (np.array([["a", "b"]] * 2), "type <U1"),
            (np.array([[None] * 2] * 2), "not a pickle or .npy file of one plain array"),
            (np.array([[1, np.nan], [1, 1]], np.float32), "not finite"),
            (np.array([[1, 1], [0, 0]], np.float32), "zero"),
        ],
    )
    def test_other_arrays_are_refused(self, tmp_path, array, message):
        np.save(tmp_path / "prompts.npy", array)
        with pytest.raises(RespoDiffError, match=message):
            load_prompts(tmp_path / "prompts.npy")

    def test_missing_and_large_files_are_told(self, tmp_path):
        with pytest.raises(RespoDiffError, match="does not exist"):
            load_prompts(tmp_path / "prompts.p")
        (tmp_path / "prompts.p").write_bytes(bytes(2 << 20))
        with pytest.raises(RespoDiffError, match="too large"):
            load_prompts(tmp_path / "prompts.p")
