"""`respodiff push`: one commit with the file and its card, over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from respodiff.trainer.sharing.card import is_untouched
from safetensors.torch import save
from sharing_commands import REPO, accepted, adapter_file, evaluation, left, refusal


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
        assert "not a licence id" in refusal("push", file, REPO, "--dry-run", "--license", "my own: terms")

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
        images = {name for name in before if name.startswith("card/")}
        assert images
        file = adapter_file(tmp_path, description="trained again")
        accepted("push", file, REPO)
        after = logged_in.repositories[REPO].files
        assert after["gender.safetensors"] == file.read_bytes()
        assert b"trained again" in after["README.md"]
        assert set(after) == set(before) - images, "pictures of another file are gone"
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
        assert "also has gender.safetensors" in said
        accepted("push", other, REPO, "--keep-readme")
        assert {"gender.safetensors", "age.safetensors"} <= set(logged_in.repositories[REPO].files)

    def test_a_change_in_between_is_not_run_over(self, logged_in, tmp_path):
        accepted("push", adapter_file(tmp_path), REPO)
        mine = {**logged_in.repositories[REPO].files, "README.md": b"mine"}
        logged_in.before_commit = lambda: logged_in.commit(REPO, mine)
        said = refusal("push", adapter_file(tmp_path, description="trained again"), REPO)
        assert "push again" in said
        assert logged_in.repositories[REPO].files["README.md"] == b"mine"
