"""`respodiff pull` and `push` against a stand-in for the Hub, over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

from hub_stand_in import TOKEN, Hub
from respodiff.respodiff_core.adapter.adapter import read
from respodiff.trainer.commands.app import app
from sharing_commands import OFF, REPO, adapter_file, content, left, sha256
from trainer_runs import RESPODIFF
from typer.testing import CliRunner


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
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert left(tmp_path / "here") == []


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
