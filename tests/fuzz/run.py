"""Fuzz a reader of strangers' files: `python tests/fuzz/run.py adapter --runs 1000000`.

Begins from the corpus in tests/fuzz/corpus and from good files. A file that breaks a rule of targets.py is written to
--found, and the exit code is not 0. --keep adds what reached new code to the corpus.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = "FUZZ_FOLDER"
if __name__ == "__main__" and FOLDER not in os.environ:
    # libFuzzer ends its process without a chance to clean up: another one does.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as folder:
        sys.exit(subprocess.call([sys.executable, *sys.argv], env={**os.environ, FOLDER: folder}))

import atheris  # noqa: E402

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
with atheris.instrument_imports(include=["respodiff.respodiff_core", "respodiff.trainer.evaluation.scorers.q16"]):
    import targets
from mutators import MUTATORS  # noqa: E402
from seeds import seeds  # noqa: E402

LONGEST = 1 << 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=targets.TARGETS)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, default=Path("out/fuzz"), help="where a file that breaks a rule goes")
    parser.add_argument("--keep", action="store_true", help="keep what reached new code in tests/fuzz/corpus")
    asked = parser.parse_args()
    corpus = HERE / "corpus" / asked.target
    asked.found.mkdir(parents=True, exist_ok=True)
    working = Path(os.environ[FOLDER], "corpus")
    working.mkdir()
    for number, seed in enumerate(seeds(asked.target)):
        (working / f"seed-{number}").write_bytes(seed)
    places = [corpus, working] if asked.keep else [working, corpus]
    corpus.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        f"-runs={asked.runs}",
        f"-seed={asked.seed}",
        f"-max_len={LONGEST}",
        "-timeout=20",
        f"-rss_limit_mb={2048 + inherited_mb()}",
        f"-artifact_prefix={asked.found / asked.target}-",
        "-print_final_stats=1",
        *map(str, places),
    ]
    mutator = MUTATORS.get(asked.target)
    how = {"custom_mutator": lambda data, most, seed: mutator(data, most, seed, atheris.Mutate)} if mutator else {}
    atheris.Setup(arguments, lambda data: targets.run(asked.target, data), **how)
    atheris.Fuzz()


def inherited_mb() -> int:
    """The most memory that getrusage, by which libFuzzer limits, begins with: that of the process which began this."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
