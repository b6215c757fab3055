"""`respodiff pull` and `push` against a stand-in for the Hub, over HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from adapters import random_adapter, random_concept
from hub_stand_in import TOKEN, Hub, hub_stand_in
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image
from respodiff.respodiff_core.adapter import Adapter, read, write
from respodiff.trainer.cli import app
from respodiff.trainer.evaluation.figures import Figure, SettingFigures
from respodiff.trainer.evaluation.results import FIGURES_FILE, Results
from respodiff.trainer.evaluation.scorer import Axis
from respodiff.trainer.sharing.card import is_untouched
from safetensors.torch import save
from trainer_runs import RESPODIFF
from typer.testing import CliRunner

REPO = "someone/gender"
OFF = ("HF_HUB_OFFLINE", "HF_TOKEN", "COMFYUI_PATH")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_stand_in() as hub:
        yield hub


@pytest.fixture
def online(hub, tmp_path, monkeypatch) -> Hub:
    """This process talks to the stand-in, with nobody logged in."""
    for name in OFF:
        monkeypatch.delenv(name, raising=False)
    settings = {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    settings["HUGGINGFACE_CO_URL_TEMPLATE"] = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    settings |= {"HF_TOKEN_PATH": str(tmp_path / "token"), "HF_HUB_CACHE": str(tmp_path / "cache")}
    settings["AGENT_HARNESSES_PATH"] = str(tmp_path / "harnesses.json")
    for name, value in settings.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value, raising=False)  # some versions lack some
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return hub


@pytest.fixture
def logged_in(online, monkeypatch) -> Hub:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return online


def command(*arguments: object):
    """What a person gets to see; whatever happens, it is neither a traceback nor a token."""
    done = CliRunner().invoke(app, ["-v", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert TOKEN not in done.output
    return done


def refusal(*arguments: object) -> str:
    done = command(*arguments)
    assert done.exit_code == 1, done.output
    return " ".join(done.stderr.split())


def accepted(*arguments: object) -> str:
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def adapter_file(folder: Path, name: str = "gender.safetensors", **metadata: str) -> Path:
    """Two concepts as `respodiff train` writes them, under a licence."""
    facts = {"base_model": "example/base@main", "base_sha256": "0" * 64, "steps": 1200, "ram_rate": 0.01, "seed": 0}
    concepts = {
        name: random_concept(name, seed=n, category="fairness", target=f"a {name}", neutral="a person", axis="gender",
                             latent_height=64, latent_width=64, training={**facts, "sam_rate": rate})
        for n, (name, rate) in enumerate({"woman": 0.001, "man": 0.0001}.items())
    }  # fmt: skip
    about = {
        "modelspec.license": "MIT",
        "modelspec.title": "Gender",
        **{f"modelspec.{k}": v for k, v in metadata.items()},
    }
    folder.mkdir(exist_ok=True)
    return write(Adapter("sd15", concepts, "epsilon", about), folder / name)


def content(tmp_path: Path, *concepts: str) -> bytes:
    return write(random_adapter(*concepts), tmp_path / "made.safetensors").read_bytes()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def left(folder: Path = Path()) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class TestRoundTrip:
    """The command as people start it, in processes of its own."""

    def environment(self, hub: Hub, home: Path, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in OFF}
        mine = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
        return {**kept, **mine, "COLUMNS": "200", **more}

    def run(self, hub: Hub, folder: Path, *arguments: object, **more: str) -> str:
        env = self.environment(hub, folder / "home", **more)
        done = subprocess.run(
            [*RESPODIFF, *map(str, arguments)], cwd=folder, env=env, text=True, capture_output=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout

    def test_what_was_pushed_is_pulled_bit_for_bit_and_can_be_pinned(self, hub, tmp_path):
        file = adapter_file(tmp_path)
        said = self.run(hub, tmp_path, "push", file, REPO, HF_TOKEN=TOKEN)
        first = hub.repositories[REPO].commits[-1][0]
        assert hub.url in said
        assert f"revision {first}" in said
        assert f"sha256   {sha256(file.read_bytes())}" in said
        assert set(hub.repositories[REPO].files) == {".gitattributes", "README.md", "gender.safetensors"}
        assert len(hub.repositories[REPO].commits) == 2, "the repository, and one commit with everything"

        second = hub.commit(REPO, {"gender.safetensors": content(tmp_path, "changed")})
        (tmp_path / "newest").mkdir()
        assert second in self.run(hub, tmp_path, "pull", REPO, "-o", "newest")
        assert list(read(tmp_path / "newest" / "gender.safetensors").concepts) == ["changed"]

        said = self.run(hub, tmp_path, "pull", f"{REPO}@{first}", "-o", "pinned.safetensors")
        assert (tmp_path / "pinned.safetensors").read_bytes() == file.read_bytes()
        assert f"respodiff pull {REPO}@{first}" in said
        assert "woman (fairness), man (fairness)" in said
        assert json.loads((tmp_path / "pinned.hub.json").read_text()) == {
            "hub": hub.url,
            "repo": REPO,
            "revision": first,
            "file": "gender.safetensors",
            "sha256": sha256(file.read_bytes()),
        }

    def test_stopped_half_way_nothing_is_there(self, hub, tmp_path):
        hub.add(REPO, {"gender.safetensors": adapter_file(tmp_path / "away").read_bytes()})
        hub.stalled = threading.Event()
        (tmp_path / "here").mkdir()
        process = subprocess.Popen(
            [*RESPODIFF, "pull", REPO, "-o", "here"],
            cwd=tmp_path,
            env=self.environment(hub, tmp_path / "home", TMPDIR=str(tmp_path / "here")),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert hub.stalled.wait(60)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:  # Python drops an interrupt that comes within a clean-up of its own
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert left(tmp_path / "here") == []


class TestPull:
    def test_all_adapters_come_and_other_files_stay_there(self, online, tmp_path):
        """A checkpoint beside them is told by its header; its bytes are not fetched."""
        checkpoint = save({"model.diffusion_model.weight": torch.zeros(100_000)})
        woman, man = content(tmp_path, "woman"), content(tmp_path, "man")
        online.add(REPO, {"a/woman.safetensors": woman, "man.safetensors": man, "unet.safetensors": checkpoint,
                          "README.md": b"hello"})  # fmt: skip
        said = accepted("pull", REPO)
        assert left() == ["man.hub.json", "man.safetensors", "woman.hub.json", "woman.safetensors"]
        assert Path("woman.safetensors").read_bytes() == woman
        assert "Left out, as no adapters: unet.safetensors" in said
        whole = {sha256(one) for one in (woman, man)}
        assert {one.path.removeprefix("/cdn/") for one in online.downloads()} >= whole

    def test_one_of_several_can_be_chosen(self, online, tmp_path):
        online.add(REPO, {f"{name}.safetensors": content(tmp_path, name) for name in ("woman", "man")})
        several = refusal("pull", REPO, "-o", "mine.safetensors")
        assert "choose one with --file" in several
        assert "woman.safetensors, man.safetensors" in several
        accepted("pull", REPO, "--file", "man.safetensors", "-o", "mine.safetensors")
        assert list(read("mine.safetensors").concepts) == ["man"]
        assert left() == ["mine.hub.json", "mine.safetensors"]
        assert "There are: woman.safetensors, man.safetensors" in refusal("pull", REPO, "--file", "child.safetensors")

    def test_it_goes_into_a_comfyui(self, online, tmp_path, monkeypatch):
        online.add(REPO, {"woman.safetensors": content(tmp_path, "woman")})
        for name in ("one", "two"):
            (tmp_path / name / "models").mkdir(parents=True)
            (tmp_path / name / "main.py").touch()
        accepted("pull", REPO, "--comfyui", tmp_path / "one")
        monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "two"))
        accepted("pull", REPO)
        for name in ("one", "two"):
            assert (tmp_path / name / "models" / "respodiff" / "woman.safetensors").exists()
        assert left() == []
        accepted("pull", REPO, "-o", ".")
        assert Path("woman.safetensors").exists(), "a place that was asked for wins"
        assert "has no main.py" in refusal("pull", REPO, "--comfyui", tmp_path)
        assert "There is no folder nowhere" in refusal("pull", REPO, "-o", "nowhere")

    def test_nothing_is_replaced_unasked(self, online, tmp_path):
        online.add(REPO, {"woman.safetensors": content(tmp_path, "woman")})
        Path("woman.safetensors").write_bytes(b"mine")
        assert "--force" in refusal("pull", REPO)
        assert Path("woman.safetensors").read_bytes() == b"mine"
        assert left() == ["woman.safetensors"]
        accepted("pull", REPO, "--force")
        assert list(read("woman.safetensors").concepts) == ["woman"]

    def test_the_same_file_is_not_fetched_again(self, online, tmp_path):
        online.add(REPO, {"woman.safetensors": content(tmp_path, "woman")})
        accepted("pull", REPO)
        before, fetched = Path("woman.safetensors").stat(), len(online.downloads())
        assert "was here already" in accepted("pull", REPO)
        assert Path("woman.safetensors").stat() == before
        assert len(online.downloads()) == fetched + 1, "the header alone"

    @pytest.mark.parametrize("noted", ["of another file", "nothing"])
    def test_where_a_file_is_from_is_noted_whatever_was_noted_before(self, online, tmp_path, noted):
        """A process that was killed leaves a file beside the note of another one, or without any."""
        online.add(REPO, {"woman.safetensors": content(tmp_path, "man")})
        accepted("pull", REPO)
        old = Path("woman.hub.json").read_text()
        online.commit(REPO, {"woman.safetensors": content(tmp_path, "woman")})
        accepted("pull", REPO, "--force")
        new = Path("woman.hub.json").read_text()
        assert new != old
        Path("woman.hub.json").write_text(old) if noted != "nothing" else Path("woman.hub.json").unlink()
        accepted("pull", REPO)
        assert Path("woman.hub.json").read_text() == new

    def test_a_file_of_the_notes_name_is_not_replaced_unasked(self, online, tmp_path):
        online.add(REPO, {"woman.safetensors": content(tmp_path, "woman")})
        accepted("pull", REPO)
        Path("woman.hub.json").write_text("mine")
        assert "woman.hub.json is there already" in refusal("pull", REPO)
        assert Path("woman.hub.json").read_text() == "mine"

    @pytest.mark.parametrize(
        "header",
        [{"a.ram": 5}, "x", [1], None, {"a.ram": {"dtype": ["x"], "shape": [1], "data_offsets": [0, 4]}},
         {"a.ram": {"dtype": "F32", "shape": ["a"], "data_offsets": [0, 4]}},
         {"a.ram": {"dtype": "F32", "shape": [1], "data_offsets": 5}}],
    )  # fmt: skip
    def test_a_header_of_anything_is_no_adapter_and_those_beside_it_come(self, online, tmp_path, header):
        text = json.dumps(header).encode()
        bad = len(text).to_bytes(8, "little") + text + bytes(8)
        online.add(REPO, {"bad.safetensors": bad, "woman.safetensors": content(tmp_path, "woman")})
        assert "Left out, as no adapters: bad.safetensors" in accepted("pull", REPO)
        assert left() == ["woman.hub.json", "woman.safetensors"]

    def test_a_wrong_sha256_is_refused_before_anything_is_fetched(self, online, tmp_path):
        data = content(tmp_path, "woman")
        online.add(REPO, {"woman.safetensors": data})
        said = refusal("pull", REPO, "--sha256", "0" * 64)
        assert sha256(data) in said
        assert "0" * 64 in said
        assert left() == []
        accepted("pull", REPO, "--sha256", sha256(data).upper())
        assert "64 hex digits" in refusal("pull", REPO, "--sha256", "abc")

    def test_bytes_that_changed_on_the_way_are_not_kept(self, online, tmp_path):
        online.add(REPO, {"woman.safetensors": content(tmp_path, "woman")})
        online.damaged = True
        assert "damaged on the way" in refusal("pull", REPO)
        assert left() == []

    def test_a_connection_that_breaks_leaves_nothing(self, online, tmp_path, monkeypatch):
        online.add(REPO, {"woman.safetensors": content(tmp_path, "woman")})
        online.cut = True
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        assert "could not be reached" in refusal("pull", REPO)
        assert left() == []

    def test_a_damaged_adapter_is_refused_and_so_are_those_with_it(self, online, tmp_path):
        data = content(tmp_path, "woman")
        online.add(REPO, {"a.safetensors": content(tmp_path, "man"), "woman.safetensors": data[:-8]})
        assert "woman.safetensors is not a whole safetensors file" in refusal("pull", REPO)
        assert left() == []

    @pytest.mark.parametrize(
        "name", ["../woman.safetensors", "a/../../woman.safetensors", "/woman.safetensors", "a\\..\\b.safetensors",
                 "C:woman.safetensors", "\x1b[2J.safetensors"]
    )  # fmt: skip
    def test_a_name_that_leads_out_of_the_folder_is_refused(self, online, tmp_path, name):
        online.add(REPO, {name: content(tmp_path, "woman")})
        said = refusal("pull", REPO)
        assert "is refused" in said
        assert "\x1b" not in said
        assert left() == []
        assert not online.downloads()

    @pytest.mark.parametrize(
        ("files", "told"),
        [
            ({"README.md": b""}, "there is no .safetensors file"),
            ({"lora.safetensors": save({"lora_up.weight": torch.zeros(2)})}, "holds no adapter in lora.safetensors"),
            ({"page.safetensors": b"<html>not found</html>"}, "holds no adapter in page.safetensors"),
        ],
    )
    def test_a_repository_without_an_adapter_says_so(self, online, files, told):
        online.add(REPO, files)
        assert told in refusal("pull", REPO)
        assert left() == []

    def test_where_there_is_no_such_model_or_revision(self, online, tmp_path):
        assert "There is no model someone/gender" in refusal("pull", REPO)
        online.add(REPO, {"woman.safetensors": content(tmp_path, "woman")})
        assert "has no revision v2" in refusal("pull", f"{REPO}@v2")
        assert "has no revision" in refusal("pull", f"{REPO}@{'a' * 40}")
        assert "owner/name" in refusal("pull", "gender")
        assert "owner/name" in refusal("pull", "../../etc/passwd")

    @pytest.mark.parametrize(("kind", "told"), [("private", "There is no model"), ("gated", "is gated")])
    def test_private_and_gated_models_need_a_login(self, online, tmp_path, monkeypatch, kind, told):
        online.add(REPO, {"woman.safetensors": content(tmp_path, "woman")}, **{kind: True})
        said = refusal("pull", REPO)
        assert told in said
        assert "hf auth login" in said
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        accepted("pull", REPO)
        assert {one.token for one in online.downloads()} == {None}, "the token stays with the Hub"
        assert not [name for name in left() if TOKEN in Path(name).read_text("latin-1")]

    def test_without_a_network_it_says_so(self, online, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        assert "could not be reached" in refusal("pull", REPO)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE is set" in refusal("pull", REPO)

    def test_a_hub_in_trouble_is_told_from_a_wrong_name(self, online):
        online.status = 503
        assert "try again later" in refusal("pull", REPO)

    def test_a_hub_that_gives_another_commit_than_the_pinned_one_is_refused(self, online, tmp_path, monkeypatch):
        online.add(REPO, {"woman.safetensors": content(tmp_path, "woman")})
        pinned = online.repositories[REPO].commits[0][0]
        online.commit(REPO, {"woman.safetensors": content(tmp_path, "other")})
        newest = online.repositories[REPO].commits[-1]
        monkeypatch.setattr(online.repositories[REPO], "at", lambda revision: newest)
        assert f"asked for commit {pinned} and gives {newest[0]}" in refusal("pull", f"{REPO}@{pinned}")


class TestPush:
    def test_a_dry_run_writes_everything_and_asks_nobody(self, online, tmp_path):
        file = adapter_file(tmp_path)
        said = accepted("push", file, REPO, "--dry-run")
        assert "Nothing was uploaded" in said
        assert left(Path("out/push/gender")) == ["README.md", "gender.safetensors"]
        assert Path("out/push/gender/gender.safetensors").read_bytes() == file.read_bytes()
        assert online.requests == []
        assert "--force" in refusal("push", file, REPO, "--dry-run")

    def test_a_dry_run_s_card_is_the_one_that_is_pushed(self, logged_in, tmp_path):
        file = adapter_file(tmp_path)
        accepted("push", file, REPO, "--dry-run", "-o", "look")
        accepted("push", file, REPO)
        assert logged_in.repositories[REPO].files["README.md"] == Path("look/README.md").read_bytes()
        assert is_untouched(Path("look/README.md").read_text())

    def test_nobody_may_use_what_has_no_licence(self, online, tmp_path):
        file = adapter_file(tmp_path, license="")
        assert "--license" in refusal("push", file, REPO, "--dry-run")
        accepted("push", file, REPO, "--dry-run", "--license", "openrail")
        assert "\nlicense: openrail\n" in Path("out/push/gender/README.md").read_text()
        assert "no licence id" in refusal("push", file, REPO, "--dry-run", "--license", "my own: terms")

    def test_a_licence_that_the_hub_does_not_know_is_told_by_the_hub(self, logged_in, tmp_path):
        said = refusal("push", adapter_file(tmp_path), REPO, "--license", "mti")
        assert "license" in said
        assert "mti" in said

    def test_what_is_no_adapter_is_not_pushed(self, logged_in, tmp_path):
        (tmp_path / "lora.safetensors").write_bytes(save({"lora_up.weight": torch.zeros(2)}))
        assert "Is it a LoRA" in refusal("push", tmp_path / "lora.safetensors", REPO)
        assert logged_in.requests == []

    def test_without_a_login_it_says_how(self, online, tmp_path):
        assert "hf auth login" in refusal("push", adapter_file(tmp_path), REPO)
        assert REPO not in online.repositories

    def test_into_anothers_place_it_is_refused(self, logged_in, tmp_path):
        file = adapter_file(tmp_path)
        assert "You may not write to other/gender" in refusal("push", file, "other/gender")
        logged_in.add("other/gender", {})
        assert "You may not write to other/gender" in refusal("push", file, "other/gender")

    def test_private_is_private(self, logged_in, tmp_path, monkeypatch):
        file = adapter_file(tmp_path)
        accepted("push", file, REPO, "--private")
        assert logged_in.repositories[REPO].private
        monkeypatch.delenv("HF_TOKEN")
        assert "hf auth login" in refusal("pull", REPO)

    def test_what_is_public_already_is_not_taken_for_private(self, logged_in, tmp_path):
        logged_in.add(REPO, {})
        assert "public" in refusal("push", adapter_file(tmp_path), REPO, "--private")
        assert "gender.safetensors" not in logged_in.repositories[REPO].files

    def test_a_second_push_replaces_adapter_card_and_pictures(self, logged_in, tmp_path):
        file = adapter_file(tmp_path)
        accepted("push", file, REPO, "--evaluation", evaluation(tmp_path / "eval", file))
        before = logged_in.repositories[REPO].files
        pictures = {name for name in before if name.startswith("card/")}
        assert pictures
        file = adapter_file(tmp_path, description="trained again")
        accepted("push", file, REPO)
        after = logged_in.repositories[REPO].files
        assert after["gender.safetensors"] == file.read_bytes()
        assert b"trained again" in after["README.md"]
        assert set(after) == set(before) - pictures, "pictures of another file are gone"
        count = len(logged_in.repositories[REPO].commits)
        accepted("push", file, REPO)
        assert len(logged_in.repositories[REPO].commits) == count, "nothing new, no commit"

    @pytest.mark.parametrize("readme", [b"# My model", None], ids=["written by hand", "changed by hand"])
    def test_a_readme_of_other_hands_stays_unless_told(self, logged_in, tmp_path, readme):
        file = adapter_file(tmp_path)
        accepted("push", file, REPO)
        mine = readme or logged_in.repositories[REPO].files["README.md"].replace(b"## Licence", b"## My licence")
        logged_in.commit(REPO, {**logged_in.repositories[REPO].files, "README.md": mine})
        file = adapter_file(tmp_path, description="trained again")
        said = refusal("push", file, REPO)
        assert "--keep-readme" in said
        assert "--force" in said
        assert logged_in.repositories[REPO].files["README.md"] == mine
        accepted("push", file, REPO, "--keep-readme")
        assert logged_in.repositories[REPO].files["README.md"] == mine
        assert logged_in.repositories[REPO].files["gender.safetensors"] == file.read_bytes()
        accepted("push", file, REPO, "--force")
        assert is_untouched(logged_in.repositories[REPO].files["README.md"].decode())

    def test_a_card_does_not_pass_over_other_adapters_there(self, logged_in, tmp_path):
        accepted("push", adapter_file(tmp_path), REPO)
        other = adapter_file(tmp_path, "age.safetensors")
        said = refusal("push", other, REPO)
        assert "also holds gender.safetensors" in said
        accepted("push", other, REPO, "--keep-readme")
        assert {"gender.safetensors", "age.safetensors"} <= set(logged_in.repositories[REPO].files)

    def test_a_change_in_between_is_not_run_over(self, logged_in, tmp_path):
        accepted("push", adapter_file(tmp_path), REPO)
        mine = {**logged_in.repositories[REPO].files, "README.md": b"mine"}
        logged_in.before_commit = lambda: logged_in.commit(REPO, mine)
        said = refusal("push", adapter_file(tmp_path, description="trained again"), REPO)
        assert "push again" in said
        assert logged_in.repositories[REPO].files["README.md"] == b"mine"


def evaluation(folder: Path, file: Path, pictures: bool = False, protocol: str = "winobias") -> Path:
    """An evaluation's folder as `respodiff eval` leaves it, with figures made up for the test."""
    ratio, right = "deviation ratio/gender", "steering accuracy/gender"
    settings = {"unsteered": SettingFigures(40, 0, {ratio: Figure(0.7, 0.6, 0.8, 40)},
                                            {"doctor": {ratio: Figure(0.8, 0.7, 0.9, 20)},
                                             "nurse": {ratio: Figure(0.6, 0.5, 0.7, 20)}})}  # fmt: skip
    of: dict[str, dict] = {"unsteered": {"adapters": {}, "strength": 1.0, "groups": [], "strengths": {}}}
    for strength in (0.5, 1.0):
        name = f"gender at {strength:g}"
        overall = {ratio: Figure(0.21, 0.1, 0.32, 38, 2), right: Figure(0.875, 0.8, 0.95, 40),
                   "alignment": Figure(27.31, 27.0, 27.6, 40)}  # fmt: skip
        settings[name] = SettingFigures(40, 0, overall, settings["unsteered"].groups)
        adapters = {file.name: sha256(file.read_bytes())}
        of[name] = {"adapters": adapters, "strength": strength, "groups": ["woman", "man"],
                    "strengths": {"woman": strength, "man": strength}}  # fmt: skip
    of["another"] = {**of[name], "adapters": {"another.safetensors": "f" * 64}}
    settings["another"] = settings[name]
    manifest = {
        "protocol": protocol,
        "base": {"name": "base", "family": "sd15", "sha256": "1" * 64},
        "asked": {"pictures": 40, "sha256": "2" * 64},
        "seed": 0,
        "drawing": {"schedule_steps": 50, "guidance": 7.5, "precision": "float16"},
        "settings": of,
    }
    shown = {"doctor": ["doctor-000", "doctor-001"], "nurse": ["nurse-000", "nurse-001"]}
    folder.mkdir(exist_ok=True)
    axes = (Axis("gender", ("woman", "man"), ("a woman", "a man")),)
    Results(manifest, {"clip": "clip 0123"}, axes, settings, {}, shown, 0.95).write(folder / FIGURES_FILE)
    for setting in settings if pictures else ():
        for ids in shown.values():
            for name in ids:
                (folder / "pictures" / setting).mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (64, 64), "red").save(folder / "pictures" / setting / f"{name}.png")
    return folder


def card_of(tmp_path: Path, file: Path, *arguments: object) -> str:
    accepted("push", file, REPO, "--dry-run", "--force", "-o", tmp_path / "look", *arguments)
    return (tmp_path / "look" / "README.md").read_text()


class Page(HTMLParser):
    """A card as a browser shows it: how often each tag occurs, links, the texts of cells, and all of the text."""

    def __init__(self, card: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str | None] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(
            MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(ModelCard(card).text)
        )

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [value for name, value in attributes if name in ("href", "src")]
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\n", " ")
        if self.cells:
            self.cells[-1] += data.rstrip("\n")


class TestCard:
    def test_it_says_what_the_file_says(self, online, tmp_path):
        text = card_of(tmp_path, adapter_file(tmp_path, author="A. Maker", description="For portraits."))
        assert "| woman | fairness | gender | a woman | a person | 1 | constant |" in text
        assert "| base model | example/base&#64;main |" in text
        assert "| RAM's learning rate | 0.01 |" in text
        assert "| man | 0.0001 |" in text, "what differs between concepts stands by concept"
        assert "512 x 512" in text
        assert "Its maker says: For portraits." in text
        assert "not a filter" in text
        assert f"respodiff pull {REPO}\n" in text
        assert sha256((tmp_path / "gender.safetensors").read_bytes()) in text
        assert "**This file comes without an evaluation.**" in text

    def test_its_front_matter_is_for_the_hub(self, online, tmp_path):
        data = ModelCard(card_of(tmp_path, adapter_file(tmp_path))).data.to_dict()
        assert data == {
            "license": "mit",
            "library_name": "respodiff",
            "pipeline_tag": "text-to-image",
            "tags": ["respodiff", "comfyui", "text-to-image", "stable-diffusion", "fairness"],
            "base_model": ["example/base"],
            "base_model_relation": "adapter",
        }

    def test_a_licence_in_words_is_named_and_not_guessed(self, online, tmp_path):
        text = card_of(tmp_path, adapter_file(tmp_path, license="Ask me: first"))
        assert "\nlicense: other\nlicense_name: ask-me-first\n" in text
        assert "\nAsk me: first\n" in text

    def test_an_evaluation_is_shown_with_intervals_and_plots(self, online, tmp_path):
        file = adapter_file(tmp_path)
        text = card_of(tmp_path, file, "--evaluation", evaluation(tmp_path / "eval", file))
        assert "| figure | unsteered | gender at 0.5 | gender at 1 | what it says |" in text
        assert "| deviation ratio, gender | 0.700 (0.600 to 0.800) | 0.210 (0.100 to 0.320) |" in text
        assert "| 87.5 % (80.0 to 95.0) |" in text
        assert "2 more pictures nobody could tell" in text
        assert "95 % bootstrap interval" in text
        assert "another" not in text.partition("## Evaluation")[2].partition("## Intended")[0].replace(
            "another profile", ""
        )
        shown = re.findall(r"!\[[^\]]+\]\((card/[^)]+)\)", text)
        assert len(shown) == 3, "bars by profession, figures over strength, alignment over strength"
        for name in shown:
            with Image.open(tmp_path / "look" / name) as picture:
                assert picture.format == "PNG"
                picture.verify()

    def test_pictures_are_shown_when_asked(self, online, tmp_path):
        file = adapter_file(tmp_path)
        folder = evaluation(tmp_path / "eval", file, pictures=True)
        assert "card/1-pictures.png" not in card_of(tmp_path, file, "--evaluation", folder)
        text = card_of(tmp_path, file, "--evaluation", folder, "--pictures")
        assert "![The same prompts and seeds: unsteered, then gender at 1](card/1-pictures.png)" in text
        with Image.open(tmp_path / "look" / "card" / "1-pictures.png") as picture:
            assert picture.getpixel((picture.width // 2, picture.height // 2)) != (255, 255, 255)
        unsafe = evaluation(tmp_path / "i2p", file, pictures=True, protocol="i2p")
        assert "pictures.png" not in card_of(tmp_path, file, "--evaluation", unsafe, "--pictures")
        (folder / "pictures" / "unsteered" / "nurse-000.png").unlink()
        said = refusal("push", file, REPO, "--dry-run", "--evaluation", folder, "--pictures")
        assert "cannot be shown" in said
        assert "--evaluation" in refusal("push", file, REPO, "--dry-run", "--pictures")

    def test_figures_of_another_file_are_refused(self, online, tmp_path):
        folder = evaluation(tmp_path / "eval", adapter_file(tmp_path))
        changed = adapter_file(tmp_path, description="trained again")
        assert "did not measure this file" in refusal("push", changed, REPO, "--dry-run", "--evaluation", folder)
        assert "finished evaluation" in refusal("push", changed, REPO, "--dry-run", "--evaluation", tmp_path)

    def test_the_texts_of_a_file_stay_texts(self, online, tmp_path):
        """Metadata is from anywhere: in a card it must be neither markup, HTML, YAML nor control characters."""
        evil = (
            "x |\n\n# Big\n<script>alert(1)</script> [here](javascript:alert(1)) ![i](http://e.x/i.png) `c` **b** "
            "_i_ &lt; ~~s~~ $$m$$ \\(m\\) {{ version }} {% raw %} \x1b[31m\u202ecod\x00\n---\nlicense: mit\n---\n"
        )
        adapter = read(adapter_file(tmp_path, title=evil, author=evil, description=evil, license=evil, date=evil))
        concept = adapter.concepts["woman"]
        facts = {"base_model": evil, evil: evil, "nested": {"a": [evil]}, "steps": 1e9, "none": None}
        info = replace(concept.info, target=evil, neutral=evil, negative=evil, axis=evil, training=facts)
        concepts = {"woman": replace(concept, info=info)}
        file = write(replace(adapter, concepts=concepts), tmp_path / "gender.safetensors")
        text = card_of(tmp_path, file)
        assert not [c for c in text if not c.isprintable() and c != "\n"]
        assert is_untouched(text)
        front = ModelCard(text).data.to_dict()
        assert front.keys() == {"license", "license_name", "library_name", "pipeline_tag", "tags"}
        assert front["license"] == "other"
        assert re.fullmatch(r"[a-z0-9.-]+", front["license_name"])

        page, plain = Page(text), Page(card_of(tmp_path, adapter_file(tmp_path)))
        assert set(page.tags) == set(plain.tags)
        assert page.tags["h1"] == 1
        assert page.tags["h2"] == plain.tags["h2"]
        assert page.links == plain.links
        seen = " ".join("".join(c if c.isprintable() else " " for c in evil).split())
        for place in ("a person", "a woman", "example/base@main"):
            assert place in plain.cells
            assert place not in page.cells
        assert page.cells.count(seen) == 6, "three prompts, the axis, the base model, and a setting's name as a value"
        assert f"Its maker says: {seen}" in page.text

    def test_it_reads_the_same_each_time(self, online, tmp_path):
        file = adapter_file(tmp_path)
        folder = evaluation(tmp_path / "eval", file)
        texts = {card_of(tmp_path, file, "--evaluation", folder) for _ in range(2)}
        assert len(texts) == 1


def test_sharing_is_never_part_of_a_node():
    """Nothing that ComfyUI loads knows the Hub."""
    root = Path(__file__).parents[2]
    for path in [root / "__init__.py", *root.glob("nodes/**/*.py"), *root.glob("respodiff_core/**/*.py")]:
        assert not re.search(r"huggingface_hub|sharing", path.read_text("utf-8")), path


def test_neither_command_asks_for_a_token():
    for name in ("pull", "push"):
        text = " ".join(CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output.split())
        assert "--token" not in text
        assert "hf auth login" in text
