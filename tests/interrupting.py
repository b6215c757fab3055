"""Every command of `respodiff`, interrupted at a random moment, and what must hold then."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from hub_stand_in import TOKEN, Hub, hub_stand_in
from respodiff.trainer.toyworld import TOYWORLD
from sharing_commands import OFF, REPO, adapter_file, content, evaluation
from toyworld_adapters import shape_adapter
from trainer_runs import RESPODIFF

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ENDED = {signal.SIGINT: 130, signal.SIGTERM: 143}
# Long enough that none of them ends by itself before it is interrupted, but for those that only read a file or two.
LONGEST = 20.0  # seconds after which a command is interrupted at the latest
_TOYWORLD = ("--base", TOYWORLD, "--device", "cpu")
COMMANDS: dict[str, tuple[str, ...]] = {
    "info": ("info", "gender.safetensors"),
    "import": ("import", "unet.pth", "--concept", "a woman", "-o", "out/imported.safetensors"),
    "merge": ("merge", "woman.safetensors", "man.safetensors", "-o", "out/merged.safetensors"),
    "convert": ("convert", "gender.safetensors", "-o", "out/small.safetensors", "--dtype", "float16"),
    "dry run": ("train", *_TOYWORLD, "--preset", "toyworld/round", "-o", "out/dry.safetensors", "--dry-run"),
    "contrast": ("contrast", *_TOYWORLD, "--preset", "toyworld/hue", "--seeds", "64", "-o", "out/hue.safetensors"),
    "train": ("train", *_TOYWORLD, "--preset", "toyworld/round", "--steps", "100000", "-o", "out/round.safetensors",
              "--save-every", "5", "--keep", "2", "--preview-every", "7"),
    "eval": ("eval", "winobias", *_TOYWORLD, "--images", "500", "-o", "out/eval"),
    "report": ("report", "evaluation", "-o", "out/report.html"),
    "calibrate": ("calibrate", "shape.safetensors", *_TOYWORLD, "-o", "out/calibrated.safetensors"),
    "ablate": ("ablate", *_TOYWORLD, "-o", "out/ablation"),
    "reproduce": ("reproduce", "race", *_TOYWORLD, "-o", "out/reproduction"),
    "pull": ("pull", REPO, "-o", "out"),
    "push": ("push", "gender.safetensors", REPO),
    "demo": ("demo", "--output", "out/demo"),
}  # fmt: skip


@dataclass(frozen=True)
class Ending:
    """How a command ended after a signal: its exit code as a shell has it, seconds it took, and what it said."""

    command: str
    number: signal.Signals
    moment: float
    code: int
    seconds: float
    said: str

    @property
    def was_over(self) -> bool:
        """Whether it had done its work before the signal came."""
        return self.code == 0

    def __str__(self) -> str:
        sent = f"{self.command}, {self.number.name} after {self.moment:.2f} s"
        return f"{sent}: exit {self.code} {self.seconds:.2f} s later\n{self.said}"


@dataclass
class Place:
    """A folder that the commands run in, with the files that they name, and a temporary folder of their own."""

    folder: Path
    hub: Hub
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.temporary = self.folder / "temporary"
        self.temporary.mkdir(parents=True)
        kept = {name: value for name, value in os.environ.items() if name not in OFF or name == "COMFYUI_PATH"}
        self.environment = {
            **kept,
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.temporary),
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.folder / "home"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
        }

    def clear(self) -> None:
        """As before the first command: their inputs, and nothing of what they write."""
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        (self.folder / "out").mkdir()
        self.hub.repositories.clear()
        self.hub.add(REPO, {"gender.safetensors": (self.folder / "gender.safetensors").read_bytes()})

    def interrupt(self, command: str, moment: float, number: signal.Signals, patience: float) -> Ending:
        """Start the command, send the signal after `moment` seconds, and wait for the end, `patience` seconds at most.

        Raises subprocess.TimeoutExpired.
        """
        process = subprocess.Popen(
            [*RESPODIFF, *COMMANDS[command]],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            time.sleep(moment)
            process.send_signal(number)
            began = time.monotonic()
            said, _ = process.communicate(timeout=patience)
        except BaseException:
            process.kill()
            raise
        seconds, code = time.monotonic() - began, process.returncode
        return Ending(command, number, moment, code if code >= 0 else 128 - code, seconds, said)

    def check(self, ending: Ending) -> None:
        """What must hold after every interrupt; what the command wrote is deleted then."""
        assert ending.was_over or ending.code == ENDED[ending.number], str(ending)
        # Before any code of ours, Python itself answers: with lines of its own alone.
        early = ending.said.startswith("Traceback") and "respodiff" not in ending.said.lower()
        assert early or "Traceback" not in ending.said, str(ending)
        assert "Exception ignored" not in ending.said, str(ending)
        assert not os.listdir(self.temporary), str(ending)
        partial = [path for path in self.folder.rglob(".*") if "home" not in path.parts]
        assert not partial, f"{partial} left by {ending}"
        running = [p for p in psutil.process_iter(["cwd"]) if str(self.folder) in str(p.info["cwd"])]
        assert not running, f"{running} left by {ending}"
        if ending.command == "pull":
            files = {path.name for path in (self.folder / "out").glob("*")}
            assert files in (set(), {"gender.safetensors", "gender.hub.json"}), str(ending)


@contextmanager
def prepared(folder: Path) -> Iterator[Place]:
    """A place with everything that the commands name, beside a stand-in for the Hub."""
    gender = adapter_file(folder)
    for name in ("woman", "man"):
        (folder / f"{name}.safetensors").write_bytes(content(folder, name))
    shape_adapter(folder / "shape.safetensors")
    columns = {"controlnet.fc1.weight": torch.rand(81920, 10), "controlnet_residual.fc2.weight": torch.rand(81920, 10)}
    torch.save(columns, folder / "unet.pth")
    evaluation(folder / "evaluation", gender)
    with hub_stand_in() as hub:
        yield Place(folder, hub)


def endings(
    place: Place, commands: Sequence[str], chance: random.Random, patience: float, longest_of_all: float = LONGEST
) -> Iterator[Ending]:
    """Interrupt each of the commands once, at a moment between its start and its end; a fourth of downloads stall."""
    longest = dict.fromkeys(COMMANDS, longest_of_all)
    for command in commands:
        place.clear()
        place.hub.stalled = threading.Event() if chance.random() < 0.25 else None
        number = chance.choice(SIGNALS)
        ending = place.interrupt(command, chance.uniform(0.05, longest[command]), number, patience)
        if ending.was_over:
            longest[command] *= 0.6
        place.check(ending)
        yield ending
