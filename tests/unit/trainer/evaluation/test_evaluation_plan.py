"""What an evaluation is going to do: protocols, settings, axes and the recipe."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import random_contrast
from respodiff.respodiff_core.adapter.adapter import Adapter, read, write
from respodiff.respodiff_core.errors import AdapterFileError, RespoDiffError
from respodiff.respodiff_core.learning.contrast_presets import contrast_values
from respodiff.respodiff_core.steering.fair_groups import FairGroup
from respodiff.trainer.evaluation.run import jobs_of
from respodiff.trainer.evaluation.scoring import metrics_of
from respodiff.trainer.evaluation.variants import axes_of, class_wanted, resolve
from respodiff.trainer.recipes.evaluation_recipe import EvalRecipe, VariantRecipe, read_recipe
from respodiff.trainer.recipes.plan import assemble_evaluation
from respodiff.trainer.recipes.strict import RecipeError
from respodiff.trainer.worlds import protocols
from respodiff.trainer.worlds.image_spec import ImageSpec
from respodiff.trainer.worlds.lookup import world_of
from respodiff.trainer.worlds.scorer import Axis
from safetensors.torch import save_file
from toyworld_adapters import concept, shape_adapter


class TestWinoBias:
    def test_is_the_papers(self):
        """36 professions, 5 templates, 150 pictures each; the seed is a picture's number within its profession."""
        specs = protocols.winobias()
        assert len(specs) == 36 * 150
        assert len({one.id for one in specs}) == len(specs)
        ceo = [one for one in specs if one.group == "CEO"]
        assert [one.seed for one in ceo] == list(range(150))
        assert Counter(one.prompt for one in ceo) == {
            f"{start} of ceo": 30 for start in ("Image", "Picture", "Photo", "Headshot", "Portrait")
        }

    def test_extended_templates_ask_for_the_successful(self):
        prompts = {one.prompt for one in protocols.winobias(5, extended=True) if one.group == "construction worker"}
        assert "Photo of a successful construction worker" in prompts

    def test_gender_takes_blocks_of_fifteen_and_race_of_ten(self, tmp_path):
        """15 x 2 x 5 and 10 x 3 x 5 pictures of a profession, a group's block for each template."""
        for groups, block in ((["a", "b"], 15), (["a", "b", "c"], 10)):
            concepts = {name: concept(name, "gender", kind="channel") for name in groups}
            setting = resolve(adapter_of(concepts, tmp_path))
            specs = [one for one in protocols.winobias() if one.group == "nurse"]
            given = setting.assign_groups(specs, seed=0)
            assert [group.name for group in given[:30]] == [name for name in groups for _ in range(block)]
            assert Counter(group.name for group in given) == dict.fromkeys(groups, block * 5)

    def test_pictures_that_cannot_be_shared_evenly_are_refused(self, tmp_path):
        with pytest.raises(RespoDiffError, match="multiple of 5"):
            protocols.winobias(12)
        setting = resolve(VariantRecipe(name="shape", adapters=[shape_adapter(tmp_path / "shape.safetensors")]))
        with pytest.raises(RespoDiffError, match="cannot be divided evenly among the 2 groups"):
            setting.assign_groups(protocols.winobias(15), seed=0)


class TestEquiSteer:
    def test_is_the_papers(self):
        """Eight professions in one prompt, 100 pictures each."""
        specs = protocols.equisteer()
        assert len(specs) == 8 * 100
        assert {one.prompt for one in specs} >= {"A photo of a CEO", "A photo of a fashion designer"}
        assert Counter(one.group for one in specs) == dict.fromkeys(protocols.EQUISTEER_PROFESSIONS, 100)

    def test_toyworld_has_the_professions_that_its_contrasts_do_not_use(self):
        values = {"protocol": "equisteer", "base": "toyworld", "output": "out", "images": 6}
        specs = world_of("toyworld").image_specs(EvalRecipe.of(values))
        assert len(specs) == 8 * 6
        contexts = contrast_values("toyworld/shape")["contexts"]
        assert not any(one.group in context for one in specs for context in contexts)

    def test_judges_by_the_papers_clip(self):
        values = {"base": "toyworld", "output": "out"}
        assert EvalRecipe.of({**values, "protocol": "equisteer"}).clip == "openai/clip-vit-large-patch14"
        assert EvalRecipe.of({**values, "protocol": "winobias"}).clip == "openai/clip-vit-base-patch32"
        mine = {**values, "protocol": "equisteer", "scoring": {"clip": "mine"}}
        assert EvalRecipe.of(mine).clip == "mine"


class TestI2P:
    ROWS = (
        {"prompt": "one", "categories": "sexual, hate"},
        {"prompt": "two", "categories": "violence"},
    )

    def test_five_pictures_a_prompt_and_a_seed_for_each(self):
        specs = protocols.i2p(self.ROWS)
        assert [one.seed for one in specs] == list(range(10))
        assert [one.id for one in specs[:6]] == ["00000-0", "00000-1", "00000-2", "00000-3", "00000-4", "00001-0"]

    def test_a_prompt_counts_in_all_of_its_categories(self):
        assert protocols.i2p(self.ROWS)[0].categories == ("sexual", "hate")

    def test_a_row_without_a_prompt_is_named(self):
        with pytest.raises(RespoDiffError, match=r"Row 2 has no prompt\. Its columns are: text"):
            protocols.i2p([self.ROWS[0], {"text": "three"}])


def test_coco_is_one_picture_a_caption():
    specs = protocols.captions([{"caption": "a cat"}, {"caption": "a dog"}], first_seed=7)
    assert [(one.prompt, one.seed) for one in specs] == [("a cat", 7), ("a dog", 8)]


def test_a_published_data_set_is_read_by_its_columns(tmp_path):
    """As the data set's own library reads it, from a local folder of the same form; without network."""
    folder = tmp_path / "i2p"
    folder.mkdir()
    (folder / "i2p.csv").write_text('prompt,categories,other\na,hate,1\nb,"sexual, hate",2\n')
    rows = protocols.published_rows(str(folder), "train", ("prompt", "categories"))
    assert rows == [{"prompt": "a", "categories": "hate"}, {"prompt": "b", "categories": "sexual, hate"}]


def test_a_data_set_that_cannot_be_had_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        RespoDiffError, match=r"data set nobody/nothing cannot be loaded .*file with the column caption"
    ):
        protocols.published_rows("nobody/nothing", "train", ("caption",))


class TestPromptFiles:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.txt", "a cat\n\n  a dog  \n"),
            ("a.csv", "prompt,group\na cat,x\na dog,y\n"),
            ("a.json", '["a cat", {"prompt": "a dog"}]'),
            ("a.jsonl", '{"prompt": "a cat"}\n{"prompt": "a dog"}\n'),
        ],
    )
    def test_are_read_in_every_form(self, tmp_path, name, text):
        (tmp_path / name).write_text(text)
        rows = protocols.read_rows(tmp_path / name, "prompt")
        assert [one.prompt for one in protocols.prompts(rows)] == ["a cat", "a dog"]

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("none.txt", None, "There is no file"),
            ("a.json", b"{", "cannot be read as .json"),
            ("a.txt", b"\xff\xfe", "not UTF-8"),
            ("a.txt", b"\n \n", "contains no prompts"),
        ],
    )
    def test_that_are_wrong_are_refused(self, tmp_path, name, content, said):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(RespoDiffError, match=said):
            protocols.read_rows(tmp_path / name, "prompt")

    def test_keep_what_only_looks_like_a_line_end(self, tmp_path):
        (tmp_path / "a.csv").write_text('prompt,group\n"two\u2028lines",x\n', "utf-8")
        (tmp_path / "a.jsonl").write_text('{"prompt": "two\u2028lines"}\n', "utf-8")
        for name in ("a.csv", "a.jsonl"):
            (row,) = protocols.read_rows(tmp_path / name, "prompt")
            assert row["prompt"] == "two\u2028lines"

    def test_may_give_groups_and_seeds(self):
        rows = [{"prompt": "a nurse", "group": "nurse", "seed": "40"}, {"prompt": "nurses"}]
        specs = protocols.prompts(rows, per_prompt=2)
        assert [(one.group, one.seed) for one in specs] == [("nurse", 40), ("nurse", 41), ("nurses", 2), ("nurses", 3)]
        assert {one.group for one in protocols.prompts(rows[1:] * 3)} == {""}, "single pictures: the ratio is over all"
        with pytest.raises(RespoDiffError, match="Row 1 has the seed 'x'"):
            protocols.prompts([{"prompt": "a", "seed": "x"}])


def adapter_of(held: dict, tmp_path: Path, **recipe: object) -> VariantRecipe:
    path = write(Adapter("toyworld", held, "epsilon"), tmp_path / "adapter.safetensors")
    return VariantRecipe(name="all", adapters=[path], **recipe)


class TestSettings:
    def test_fairness_concepts_share_the_pictures_and_the_others_act_on_all(self, tmp_path):
        concepts = {
            "round": concept("round", "shape"),
            "square": concept("square", "shape"),
            "hazard": concept("hazard", "", category="safety"),
        }
        setting = resolve(adapter_of(concepts, tmp_path, strength=0.5, strengths={"round": 0.7}))
        given = setting.assign_groups([ImageSpec(str(n), "x", n, "doctor", turn=n, turns=4) for n in range(4)], seed=0)
        named = [{term.concept.name: term.ram_strength for term in group.terms} for group in given]
        assert named == [{"round": 0.7, "hazard": 0.5}] * 2 + [{"square": 0.5, "hazard": 0.5}] * 2

    def test_two_axes_are_crossed_at_their_scales(self, tmp_path):
        concepts = {
            name: concept(name, axis)
            for name, axis in (("round", "shape"), ("square", "shape"), ("teal", "hue"), ("amber", "hue"))
        }
        setting = resolve(adapter_of(concepts, tmp_path, scales={"shape": 1.1, "hue": 0.9}))
        assert [group.name for group in setting.groups] == [
            "round + teal", "round + amber", "square + teal", "square + amber",
        ]  # fmt: skip
        assert [term.ram_strength for term in setting.groups[0].terms] == [1.1, 0.9]

    def test_strengths_are_in_units_of_the_recommended_one(self, tmp_path):
        setting = resolve(adapter_of({"round": concept("round", "shape", strength=0.4)}, tmp_path, strength=2.0))
        assert setting.groups[0].terms[0].ram_strength == pytest.approx(0.8)

    def test_single_pictures_are_shared_within_each_group(self, tmp_path):
        """Or a profession's ratio would be that of chance."""
        setting = resolve(VariantRecipe(name="s", adapters=[shape_adapter(tmp_path / "shape.safetensors")]))
        specs = [ImageSpec(str(n), f"prompt {n}", n, group="doctor" if n % 3 else "nurse") for n in range(31)]
        given = setting.assign_groups(specs, seed=3)
        for profession in ("doctor", "nurse"):
            own = [group.name for group, one in zip(given, specs, strict=True) if one.group == profession]
            assert max(Counter(own).values()) - min(Counter(own).values()) <= 1

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"strengths": {"woman": 1.0}}, "gives a strength to 'woman'; its concepts are: round"),
            ({"concepts": ["woman"]}, "has no concept 'woman'"),
            ({"scales": {"race": 1.1}}, "scales the axis 'race'; its axes are: shape"),
        ],
    )
    def test_what_the_file_does_not_hold_is_refused(self, tmp_path, wrong, said):
        with pytest.raises(RespoDiffError, match=said):
            resolve(adapter_of({"round": concept("round", "shape")}, tmp_path, **wrong))

    def test_a_file_that_is_no_adapter_is_refused_before_it_is_hashed(self, tmp_path, monkeypatch):
        monkeypatch.setattr("respodiff.trainer.evaluation.variants.sha256_of", lambda _: pytest.fail("hashed"))
        with pytest.raises(RespoDiffError, match="There is no adapter file"):
            resolve(VariantRecipe(name="all", adapters=[tmp_path / "nosuch.safetensors"]))
        save_file({"model.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
        with pytest.raises(RespoDiffError, match="Is it a LoRA or a checkpoint"):
            resolve(VariantRecipe(name="all", adapters=[tmp_path / "model.safetensors"]))

    def test_the_files_are_hashed_as_they_are_read(self, tmp_path, monkeypatch):
        recipe = adapter_of({"round": concept("round", "shape")}, tmp_path)
        (file,) = recipe.adapters
        assert resolve(recipe).files == {"adapter.safetensors": hashlib.sha256(file.read_bytes()).hexdigest()}

        def read_and_replaced(path: Path) -> Adapter:
            adapter = read(path)
            write(Adapter("toyworld", {"round": concept("round", "shape", seed=9)}, "epsilon"), path)
            return adapter

        monkeypatch.setattr("respodiff.trainer.evaluation.variants.read", read_and_replaced)
        with pytest.raises(RespoDiffError, match="changed while it was read: run the command again"):
            resolve(recipe)


class TestAxes:
    def test_are_those_that_the_adapters_steer_with_all_classes_of_the_presets(self, tmp_path):
        """A file that holds only one group is judged against the others all the same."""
        adapter = {"woman": concept("woman", "gender", target="a woman")}
        (axis,) = axes_of([resolve(adapter_of(adapter, tmp_path))], [], {}, world_of("x"), "prompts")
        assert (axis.name, axis.classes, axis.texts) == ("gender", ("woman", "man"), ("a woman", "a man"))

    def test_without_adapters_may_be_named(self):
        (race,) = axes_of([], ["race"], {}, world_of("x"), "prompts")
        assert race.classes == ("white", "black", "asian")
        with pytest.raises(RespoDiffError, match=r"Unknown axis: 'height'. Known axes: gender"):
            axes_of([], ["height"], {}, world_of("x"), "prompts")

    def test_of_winobias_without_adapters_are_gender_and_race(self):
        axes = axes_of([], [], {}, world_of("x"), "winobias")
        assert [axis.name for axis in axes] == ["gender", "race"]

    def test_may_be_ones_own(self):
        (axis,) = axes_of(
            [], [], {"height": {"tall": "a tall person", "short": "a short person"}}, world_of("x"), "prompts"
        )
        assert axis.texts == ("a tall person", "a short person")
        with pytest.raises(RespoDiffError, match="only one class"):
            axes_of([], [], {"height": {"tall": "a tall person"}}, world_of("x"), "prompts")

    def test_a_concept_finds_its_class_by_name_or_by_target(self, tmp_path):
        concepts = {"lady": concept("lady", "gender", target="a woman"), "man": concept("man", "gender", target="?")}
        setting = resolve(adapter_of(concepts, tmp_path))
        (axis,) = axes_of([setting], ["gender"], {}, world_of("x"), "prompts")
        assert [class_wanted(group, axis) for group in setting.groups] == [0, 1]
        assert class_wanted(FairGroup("none", ()), axis) is None


class TestRecipe:
    def values(self, **more: object) -> dict:
        return {"protocol": "winobias", "base": "toyworld", "output": "out", **more}

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"protocol": "winobais"}, "protocol: "),
            ({"imges": 5}, "there is no such setting; did you mean images"),
            ({"scoring": {"clp": "x"}}, "scoring.clp: there is no such setting; did you mean clip"),
            ({"protocol": "prompts"}, "name a file with prompts"),
            ({"variants": [{"name": "a"}, {"name": "a"}]}, "a occurs twice"),
            ({"variants": [{"name": "A"}, {"name": "a"}]}, "occurs twice"),
            ({"variants": [{"name": "../a"}]}, "cannot be used as a folder name"),
            ({"variants": [{"name": "con"}]}, "cannot be used as a folder name"),
            ({"variants": [{"name": "unsteered", "adapters": ["a.safetensors"]}]}, "takes no adapters"),
            ({"prompts": "mine.txt"}, "winobias has its own prompts"),
            ({"scoring": {"metrics": ["distance"]}}, "distance compares with unsteered images"),
            ({"scoring": {"metrics": ["fid"]}}, "FID needs a folder of real images"),
            ({"scoring": {"metrics": ["q16"]}}, "Q16 needs the file of its two prompt embeddings"),
            ({"sampling": {"width": 512}}, "width and height together"),
            ({"protocol": "i2p", "extended": True}, "only winobias has extended templates"),
            ({"protocol": "coco", "images": 2}, "coco has one image per caption; limit takes fewer"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_place(self, wrong, said):
        with pytest.raises(RecipeError, match=said):
            EvalRecipe.of({**self.values(), **wrong})

    def test_paths_in_a_file_are_meant_from_its_folder(self, tmp_path):
        (tmp_path / "eval.toml").write_text(
            'protocol = "prompts"\nbase = "toyworld"\noutput = "out"\nprompts = "mine.txt"\n'
            '[[variants]]\nname = "both"\nadapters = ["a.safetensors"]\n[scoring]\nreference = "real"\n'
        )
        recipe = EvalRecipe.of(read_recipe(tmp_path / "eval.toml"))
        assert recipe.output == tmp_path / "out"
        assert recipe.prompts == tmp_path / "mine.txt"
        assert recipe.variants[0].adapters == (tmp_path / "a.safetensors",)
        assert recipe.scoring.reference == tmp_path / "real"

    def assembled(self, file: Path | None = None, **given: Any) -> EvalRecipe:
        given = {"top": {}, "variant": {}, "strengths": [], "guidance": [], "unsteered": None, "sections": {}, **given}
        return assemble_evaluation(file, **given)

    def test_every_variant_is_measured_at_every_guidance_scale(self, tmp_path):
        path = shape_adapter(tmp_path / "shape.safetensors")
        top = {"protocol": "winobias", "base": "toyworld", "output": tmp_path}
        recipe = self.assembled(top=top, variant={"adapters": [path]}, guidance=[2.0, 7.5])
        scales = {one.name: recipe.guidance_of(one) for one in recipe.variants}
        assert scales == {
            "unsteered at CFG 2": 2.0,
            "shape at CFG 2": 2.0,
            "unsteered at CFG 7.5": 7.5,
            "shape at CFG 7.5": 7.5,
        }
        assert recipe.baselines() == {
            "shape at CFG 2": "unsteered at CFG 2",
            "shape at CFG 7.5": "unsteered at CFG 7.5",
        }
        assert self.assembled(top=top, guidance=[4.0]).sampling.guidance == 4.0

    def test_one_scale_is_every_variants(self, tmp_path):
        file = tmp_path / "eval.toml"
        file.write_text(
            'protocol = "winobias"\nbase = "toyworld"\n[[variants]]\nname = "unsteered"\nguidance = 2.0\n'
            '[[variants]]\nname = "other"\n'
        )
        recipe = self.assembled(file, guidance=[4.0])
        assert {recipe.guidance_of(one) for one in recipe.variants} == {4.0}

    def test_variants_that_are_none_are_refused_at_several_scales_too(self, tmp_path):
        file = tmp_path / "eval.toml"
        file.write_text('protocol = "winobias"\nbase = "toyworld"\nvariants = ["x"]\n')
        with pytest.raises(RecipeError):
            self.assembled(file, guidance=[2.0, 4.0])

    def test_the_baseline_at_a_scale_takes_no_adapters_either(self, tmp_path):
        path = shape_adapter(tmp_path / "shape.safetensors")
        variants = [{"name": "unsteered at CFG 2", "adapters": [path]}]
        values = {"protocol": "winobias", "base": "toyworld", "output": tmp_path, "variants": variants}
        with pytest.raises(RecipeError, match="takes no adapters"):
            EvalRecipe.of(values)

    def test_a_recipe_alone_is_an_evaluation(self, tmp_path):
        file = tmp_path / "eval.toml"
        file.write_text('protocol = "winobias"\nbase = "toyworld"\n[[variants]]\nname = "alone"\n')
        recipe = self.assembled(file)
        assert (recipe.protocol, [one.name for one in recipe.variants]) == ("winobias", ["alone"])
        with pytest.raises(RecipeError, match=r"name a protocol \(winobias, .*\), or a --recipe"):
            self.assembled(top={"base": "toyworld"})
        with pytest.raises(RecipeError, match="a recipe lists its variants"):
            self.assembled(file, unsteered=False)

    def test_the_baseline_is_measured_unless_it_is_left_out(self):
        top, variant = {"protocol": "winobias", "base": "toyworld"}, {"adapters": [Path("a.safetensors")]}
        for given, names in ((None, ["unsteered", "a"]), (True, ["unsteered", "a"]), (False, ["a"])):
            recipe = self.assembled(top=top, variant=variant, unsteered=given)
            assert [one.name for one in recipe.variants] == names

    def test_metrics_follow_the_protocol_and_what_there_is_to_compare_with(self):
        def of(base: str = "x", **more: object) -> tuple[str, ...]:
            return metrics_of(EvalRecipe.of({**self.values(), "base": base, **more}))

        both = [{"name": "unsteered"}, {"name": "shape"}]
        assert of() == ("alignment", "labels")
        assert of(variants=both) == ("alignment", "labels", "distance", "change")
        assert of("toyworld", variants=both) == ("labels", "change")
        assert of(protocol="i2p") == ("nudity",)
        assert of(protocol="i2p", scoring={"q16_prompts": "prompts.p"}) == ("nudity", "q16")
        assert of(protocol="coco", scoring={"reference": "coco"}) == ("alignment", "fid")
        assert of(scoring={"metrics": ["nudity"]}) == ("nudity",)


def test_pictures_of_one_thing_asked_stand_together():
    recipe = EvalRecipe.of(
        {"protocol": "winobias", "base": "toyworld", "output": "x", "variants": [{"name": "a"}, {"name": "b"}]}
    )
    jobs = jobs_of(world_of(recipe.base).image_specs(recipe)[:2], [resolve(one) for one in recipe.variants], seed=0)
    assert [(job.variant, job.spec.id) for job in jobs] == [
        ("a", "doctor-000"), ("b", "doctor-000"), ("a", "doctor-001"), ("b", "doctor-001"),
    ]  # fmt: skip


def test_a_word_that_toyworld_never_saw_is_named(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(["a photo of an astronaut"]))
    recipe = {"protocol": "prompts", "base": "toyworld", "output": "x", "prompts": str(tmp_path / "mine.json")}
    with pytest.raises(RespoDiffError, match="does not know 'astronaut'"):
        world_of("toyworld").image_specs(EvalRecipe.of(recipe))


class TestNamed:
    def variant(self, tmp_path: Path, **changes: Any) -> VariantRecipe:
        concepts = {name: concept(name, "hue", kind="channel") for name in ("amber", "teal")}
        return adapter_of(concepts, tmp_path, **changes)

    @pytest.mark.parametrize(
        ("prompt", "named"),
        [
            ("a photo of a doctor in a park", "a photo of an amber doctor in a park"),
            ("Image of doctor", "Image of amber doctor"),
            ("A photo of a doctor", "A photo of an amber doctor"),
        ],
    )
    def test_the_group_stands_before_the_profession_and_nothing_is_steered(self, tmp_path, prompt, named):
        setting = resolve(self.variant(tmp_path, named=True), 7.5)
        job, *_ = jobs_of([ImageSpec("0", prompt, 0, "doctor")], [setting], seed=0)
        assert job.prompt.replace("a teal", "an amber").replace("teal", "amber") == named
        assert all(term.is_noop for term in job.given.terms)
        assert class_wanted(job.given, Axis("hue", ("amber", "teal"), ("amber", "teal"))) in (0, 1)

    def test_prompts_without_a_profession_are_refused(self, tmp_path):
        setting = resolve(self.variant(tmp_path, named=True))
        with pytest.raises(RespoDiffError, match="cannot be named in the prompt 'a nurse'"):
            jobs_of([ImageSpec("0", "a nurse", 0, "doctor")], [setting], seed=0)

    @pytest.mark.parametrize("how", ["named", "gate"])
    def test_no_adapter_has_no_groups_either(self, how):
        with pytest.raises(RespoDiffError, match="no adapter to take groups from"):
            resolve(VariantRecipe(name="x", **{how: True}))

    def test_an_adapter_without_groups_has_none_to_name(self, tmp_path):
        safety = {"hazard": concept("hazard", "", kind="channel", category="safety")}
        with pytest.raises(RespoDiffError, match="no groups"):
            resolve(adapter_of(safety, tmp_path, named=True))


def test_a_group_of_both_kinds_is_steered_by_both(tmp_path):
    """RespoDiff's and contrast concepts of one name act together; two of one kind are refused."""
    trained = shape_adapter(tmp_path / "trained.safetensors")
    names = read(trained).concepts
    contrast = Adapter("toyworld", {n: random_contrast(n, category="fairness", axis="shape") for n in names}, "epsilon")
    other = write(contrast, tmp_path / "contrast.safetensors")
    setting = resolve(VariantRecipe(name="both", adapters=(trained, other)))
    assert {group.name: [term.concept.kind for term in group.terms] for group in setting.groups} == {
        name: ["constant", "contrast"] for name in names
    }
    with pytest.raises(AdapterFileError, match="another of these adapters also contains"):
        resolve(VariantRecipe(name="twice", adapters=(other, other)))
