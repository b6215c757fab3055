"""`respodiff pull`: what comes, what is refused, and what is noted, over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hub_stand_in import TOKEN
from respodiff.respodiff_core.adapter.adapter import read
from safetensors.torch import save
from sharing_commands import REPO, accepted, content, left, refusal, sha256


def written(file: str) -> tuple[int, int]:
    """Which file it is, and when it was written: reading it, which a system may note as well, changes neither."""
    stat = Path(file).stat()
    return stat.st_ino, stat.st_mtime_ns


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
        assert "Skipped, not an adapter: unet.safetensors" in said
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
        before, fetched = written("woman.safetensors"), len(online.downloads())
        assert "already exists with the same content" in accepted("pull", REPO)
        assert written("woman.safetensors") == before
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
        assert "woman.hub.json already exists" in refusal("pull", REPO)
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
        assert "Skipped, not an adapter: bad.safetensors" in accepted("pull", REPO)
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
        assert "damaged during the download" in refusal("pull", REPO)
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
            ({"lora.safetensors": save({"lora_up.weight": torch.zeros(2)})}, "has no adapter in lora.safetensors"),
            ({"page.safetensors": b"<html>not found</html>"}, "has no adapter in page.safetensors"),
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
        online.status = 400
        said = refusal("pull", REPO)
        assert f"refuses the request for {REPO}" in said
        assert "later" not in said

    def test_a_hub_that_gives_another_commit_than_the_pinned_one_is_refused(self, online, tmp_path, monkeypatch):
        online.add(REPO, {"woman.safetensors": content(tmp_path, "woman")})
        pinned = online.repositories[REPO].commits[0][0]
        online.commit(REPO, {"woman.safetensors": content(tmp_path, "other")})
        newest = online.repositories[REPO].commits[-1]
        monkeypatch.setattr(online.repositories[REPO], "at", lambda revision: newest)
        assert f"returned commit {newest[0]} instead of the requested {pinned}" in refusal("pull", f"{REPO}@{pinned}")
