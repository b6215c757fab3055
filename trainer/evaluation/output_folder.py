"""The output folder of an evaluation: manifest, images, scores and results."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...respodiff_core.atomic import remove_partials, remove_partials_in, write_text
from ...respodiff_core.errors import RespoDiffError
from ..support.differences import differences
from ..support.output_lock import LOCK
from ..worlds.scorer import Scorer, Scores
from .figures import Row
from .image_folder import ImageFolder
from .results import Results, write_figures_table, write_images_table

_MANIFEST = "evaluation.json"


class EvaluationFolder:
    """`evaluation.json` (the manifest), `images/`, `scores/` and the results."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = ImageFolder(path / "images")
        self.images_csv, self.figures_csv = path / "images.csv", path / "figures.csv"
        self.figures_json, self.report = path / "figures.json", path / "report.html"
        self._manifest = path / _MANIFEST
        self._deleted = path / "images.deleted"

    def open(self, manifest: Mapping[str, Any], *, restart: bool) -> bool:
        """Begin or resume the evaluation; returns whether it is resumed.

        Raises RespoDiffError if the folder contains another evaluation, or other files.
        """
        remove_partials(self._manifest)
        if self._manifest.exists():
            self._remove_half_done()
            if not restart:
                self._check_same(manifest)
                return True
            self._delete_results()
        elif self.path.is_dir() and any(inside.name != LOCK for inside in self.path.iterdir()):
            raise RespoDiffError(f"{self.path} exists and is not an output folder of an evaluation: name a new folder.")
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self._manifest, json.dumps(manifest, indent=2))
        return False

    def _remove_half_done(self) -> None:
        """Delete what killed processes were writing or deleting."""
        for file in self._results:
            remove_partials(file)
        for variant in self.images.folder.glob("*"):
            remove_partials_in(variant)
        shutil.rmtree(self._deleted, ignore_errors=True)

    def _delete_results(self) -> None:
        """Delete the files of the evaluation; other files in the folder stay.

        The manifest is replaced later, so that the folder is recognized as an evaluation at every moment.
        """
        for folder in (self.images.folder, self.path / "scores"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in self._results:
            file.unlink(missing_ok=True)

    @property
    def _results(self) -> tuple[Path, ...]:
        return self.images_csv, self.figures_csv, self.figures_json, self.report

    @property
    def is_finished_without_images(self) -> bool:
        return self.figures_json.exists() and not self.images.folder.exists()

    def write(self, results: Results, rows: Sequence[Row]) -> None:
        """Write the tables and figures."""
        write_images_table(rows, results.axes, self.images_csv)
        write_figures_table(results.variants, self.figures_csv)
        results.write(self.figures_json)

    def drop_images(self) -> None:
        """Delete the images (completed by the next run if interrupted); the results stay."""
        self.images.folder.rename(self._deleted)
        shutil.rmtree(self._deleted)

    def _check_same(self, manifest: Mapping[str, Any]) -> None:
        try:
            begun = json.loads(self._manifest.read_text("utf-8"))
        except (ValueError, OSError) as error:
            raise RespoDiffError(f"{self._manifest} cannot be read ({error}): start over with --restart.") from None
        if changed := differences(begun, json.loads(json.dumps(manifest))):
            raise RespoDiffError(
                f"{self.path} has another evaluation, which differs in: {', '.join(changed)}. Name another folder (and "
                "compare both with `respodiff report`), or discard this one with --restart."
            )

    def scores(self, scorer: Scorer, process: int) -> ScoreFile:
        """The file in which this process stores the scores of a scorer."""
        return ScoreFile(self.path / "scores", scorer, process)


class ScoreFile:
    """Scores by image (`variant/id`), one file per process and one line per batch.

    An incomplete line is skipped; its batch is scored again.
    """

    def __init__(self, folder: Path, scorer: Scorer, process: int) -> None:
        mark = hashlib.sha256(scorer.fingerprint.encode()).hexdigest()[:8]
        self._folder = folder
        self._name = f"{scorer.name}-{mark}"
        self._path = folder / f"{self._name}.{process}.jsonl"

    def load(self) -> dict[str, Scores]:
        """The scores stored by all processes."""
        scores: dict[str, Scores] = {}
        pattern = re.compile(re.escape(self._name) + r"\.\d+\.jsonl")
        for path in sorted(self._folder.glob("*.jsonl")):
            if pattern.fullmatch(path.name):
                for line in path.read_bytes().split(b"\n"):
                    try:
                        scores |= json.loads(line)
                    except ValueError:  # cut off
                        continue
        return scores

    def append(self, scores: Mapping[str, Scores]) -> None:
        """Store the scores of a batch."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # Begins with a newline, so that an incomplete line before it cannot spoil this one.
        with open(self._path, "ab") as file:
            file.write(b"\n" + json.dumps(scores).encode())
