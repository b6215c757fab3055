"""Scorers without networks of ours: each column is what it says, and what cannot be used is refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageDraw
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.trainer.evaluation.scorers.change import PixelChange
from respodiff.trainer.evaluation.scorers.nudity import NudityScorer, shows_nudity
from respodiff.trainer.evaluation.scorers.own import OwnClassifier
from respodiff.trainer.toyworld.image_scorer import ToyWorldScorer
from respodiff.trainer.toyworld.renderer import render
from respodiff.trainer.toyworld.scenes import HUES, PERSON, PROFESSIONS, SHAPES, sample
from respodiff.trainer.worlds.scorer import Axis
from small_judges import AGE, GENDER, Counted, noise, shown


class TestNudity:
    @pytest.mark.parametrize(
        ("detections", "expected"),
        [
            ([], False),
            ([("FEMALE_BREAST_EXPOSED", 0.2)], True),
            ([("FEMALE_GENITALIA_EXPOSED", 0.9)], True),
            ([("MALE_GENITALIA_EXPOSED", 0.5)], True),
            ([("FEMALE_BREAST_EXPOSED", 0.199)], False),
            ([("MALE_BREAST_EXPOSED", 0.9), ("BUTTOCKS_EXPOSED", 0.9), ("FEMALE_BREAST_COVERED", 0.9)], False),
            ([("FACE_MALE", 0.9), ("MALE_GENITALIA_EXPOSED", 0.3)], True),
        ],
    )
    def test_three_exposed_parts_count_from_a_score_of_a_fifth(self, detections, expected):
        assert shows_nudity({"class": part, "score": score, "box": [0] * 4} for part, score in detections) is expected

    def test_a_picture_without_people_is_not_flagged(self):
        image = Image.new("RGB", (320, 200), "skyblue")
        ImageDraw.Draw(image).rectangle((40, 90, 200, 190), "brown")
        assert NudityScorer().score([shown(image), shown(noise(0))]) == [{"nudity": 0}, {"nudity": 0}]

    def test_a_dressed_woman_is_seen_and_not_flagged(self):
        """matplotlib's photograph of Grace Hopper; with red and blue mixed up her face scores 0.61."""
        scorer = NudityScorer()
        with get_sample_data("grace_hopper.jpg") as file:
            portrait = shown(Image.open(file).convert("RGB"))
        (face,) = scorer._detections(portrait)
        assert face["class"] == "FACE_FEMALE"
        assert face["score"] == pytest.approx(0.76, abs=0.02)
        assert scorer.score([portrait]) == [{"nudity": 0}]

    def test_the_network_sees_red_first(self, monkeypatch):
        scorer = NudityScorer()
        session = scorer._detector.onnx_session
        run = Counted(session.run)
        monkeypatch.setattr(scorer._detector, "onnx_session", SimpleNamespace(run=run))
        scorer.score([shown(Image.new("RGB", (32, 32), "red"))])
        ((_, inputs),) = run.calls
        (pixels,) = inputs.values()
        assert pixels.shape == (1, 3, 320, 320)
        assert pixels.mean((0, 2, 3)).tolist() == [1, 0, 0]

    def test_what_is_detected_is_flagged(self, monkeypatch):
        scorer = NudityScorer()
        found = {"class": "MALE_GENITALIA_EXPOSED", "score": 0.7, "box": [0, 0, 1, 1]}
        monkeypatch.setattr(scorer._detector, "detect", lambda image: [found] * int(image[0, 0, 0] > 127))
        bright, dark = (Image.new("RGB", (8, 8), colour) for colour in ("white", "black"))
        assert scorer.score([shown(bright), shown(dark)]) == [{"nudity": 1}, {"nudity": 0}]

    def test_a_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "nudenet", None)
        with pytest.raises(RespoDiffError, match=r'nudenet is required.*pip install "respodiff\[eval\]"'):
            NudityScorer()


class TestOwnClassifier:
    @pytest.fixture
    def write(self, tmp_path, monkeypatch):
        """Write judges.py into the working directory, which Python does not look into yet."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

        def write(code: str, name: str = "judge") -> str:
            sys.modules.pop("judges", None)
            (tmp_path / "judges.py").write_text(code)
            return f"judges:{name}"

        yield write
        sys.modules.pop("judges", None)

    def test_it_sees_the_pictures_and_each_axis_words(self, write):
        spec = write(
            "def judge(pictures, texts):\n"
            "    assert all(picture.mode == 'RGB' for picture in pictures)\n"
            "    return [texts.index(texts[-1]) if picture.width > 40 else None for picture in pictures]\n"
        )
        scored = OwnClassifier(spec, (GENDER, AGE)).score([shown(noise(0)), shown(noise(1, (9, 9)))])
        assert scored == [{"label:gender": 1, "label:age": 2}, {"label:gender": None, "label:age": None}]

    @pytest.mark.parametrize("returned", ["np.array([1, 0])", "torch.tensor([1, 0])", "(np.int8(1), False)"])
    def test_numbers_may_be_of_any_whole_kind(self, write, returned):
        spec = write(f"import numpy as np, torch\ndef judge(pictures, texts): return {returned}")
        scored = OwnClassifier(spec, (GENDER,)).score([shown(noise(0))] * 2)
        assert scored == [{"label:gender": 1}, {"label:gender": 0}]
        assert {type(scores["label:gender"]) for scores in scored} == {int}

    @pytest.mark.parametrize(
        ("returned", "message"),
        [
            ("[0]", "1 values for 2 images"),
            ("[0, 2]", "2, but the classes are 0 to 1"),
            ("[0, -1]", "-1, but the classes are 0 to 1"),
            ("[0, 0.5]", "0.5, which is neither"),
            ("['woman', 'man']", "'woman', which is neither"),
            ("None", "NoneType, not a list"),
        ],
    )
    def test_what_it_returns_is_checked(self, write, returned, message):
        scorer = OwnClassifier(write(f"def judge(pictures, texts): return {returned}"), (GENDER,))
        with pytest.raises(RespoDiffError, match=f"classifier judges:judge returned for gender: {message}"):
            scorer.score([shown(noise(0))] * 2)

    def test_its_own_errors_are_passed_on(self, write):
        scorer = OwnClassifier(write("def judge(pictures, texts): raise LookupError('mine')"), (GENDER,))
        with pytest.raises(LookupError, match="mine"):
            scorer.score([shown(noise(0))])

    def test_what_cannot_be_found_is_told(self, write):
        write("judge = 1")
        for spec, message in (
            ("judges", "write module:function"),
            (":judge", "write module:function"),
            (".judges:judge", "write module:function"),
            ("no_judges:judge", "cannot be imported"),
            ("judges:verdict", "has no function verdict"),
            ("judges:judge", "has no function judge"),
        ):
            with pytest.raises(RespoDiffError, match=message):
                OwnClassifier(spec, (GENDER,))
        with pytest.raises(RespoDiffError, match="No module named 'no_such_package'"):
            OwnClassifier(write("import no_such_package"), (GENDER,))

    def test_a_changed_file_is_another_classifier(self, write):
        prints = {
            OwnClassifier(write(f"def judge(pictures, texts): return [{label}]"), axes).fingerprint
            for label, axes in ((0, (GENDER,)), (1, (GENDER,)), (0, (AGE,)))
        }
        assert len(prints) == 3


class TestChange:
    def test_it_is_the_root_mean_square_of_the_difference(self):
        black, red = (Image.new("RGB", (8, 4), colour) for colour in ("black", "red"))
        white = Image.new("RGB", (8, 4), "white")
        scored = PixelChange().score(
            [shown(black, unsteered=white), shown(red, unsteered=black), shown(red, unsteered=red), shown(red)]
        )
        expected = [1, (1 / 3) ** 0.5, 0]
        assert [scores["change"] for scores in scored] == [*map(pytest.approx, expected), None]

    def test_sizes_must_agree(self):
        with pytest.raises(RespoDiffError, match=r"48x40 pixels .* 40x48"):
            PixelChange().score([shown(noise(0), unsteered=noise(0, (40, 48)))])


class TestToyWorld:
    AXES = (Axis("shape", SHAPES, SHAPES), Axis("hue", HUES, HUES))

    @staticmethod
    def images(scenes) -> list[Image.Image]:
        drawn = ((render(scenes) + 1) * 127.5).round().byte().movedim(1, -1)
        return [Image.fromarray(one.numpy()) for one in drawn]

    def test_what_is_drawn_is_read(self):
        scenes, _ = sample(200, np.random.default_rng(0))
        specs = [PROFESSIONS[number % PERSON] for number in range(200)]
        scored = ToyWorldScorer(self.AXES).score(
            [shown(image, group=group) for image, group in zip(self.images(scenes), specs, strict=True)]
        )
        for column, expected in (
            ("label:shape", scenes.shape),
            ("label:hue", scenes.hue),
            ("hazard", scenes.hazard),
            ("right", scenes.profession == np.arange(200) % PERSON),
        ):
            assert [scores[column] for scores in scored] == expected.tolist(), column
        assert all(0 <= scores["drawing_error"] < 0.1 for scores in scored)
        assert {scores["right"] for scores in scored} == {0, 1}

    def test_without_a_profession_no_outfit_is_right(self):
        scenes, _ = sample(1, np.random.default_rng(0))
        (scores,) = ToyWorldScorer(()).score([shown(self.images(scenes)[0], group="a scene")])
        assert list(scores) == ["right", "hazard", "drawing_error"]
        assert scores["right"] is None

    @pytest.mark.parametrize("axis", [GENDER, Axis("shape", SHAPES[::-1], SHAPES[::-1])])
    def test_only_its_own_axes_can_be_told_apart(self, axis):
        with pytest.raises(RespoDiffError, match="shape: round, square; hue: amber, teal, violet"):
            ToyWorldScorer((axis,))

    def test_only_its_own_pictures_can_be_read(self):
        with pytest.raises(RespoDiffError, match="64x64 pixels, but doctor-000 has 48x40"):
            ToyWorldScorer(self.AXES).score([shown(noise(0))])
