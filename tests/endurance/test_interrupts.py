"""`make faults`: two hundred interrupts at random moments over all commands; each ends within two seconds."""

from __future__ import annotations

import os
import random

from interrupting import COMMANDS, endings, prepared

INTERRUPTS = int(os.environ.get("RESPODIFF_INTERRUPTS", "200"))
WITHIN = 2.0  # seconds, on a machine with nothing else to do


def test_every_command_ends_at_once_wherever_the_interrupt_comes(tmp_path):
    commands = [list(COMMANDS)[number % len(COMMANDS)] for number in range(INTERRUPTS)]
    with prepared(tmp_path / "place") as place:
        found = []
        for ending in endings(place, commands, random.Random(20261127), patience=60):
            found.append(ending)
            print(f"\n{len(found):3} {ending.command:10} {ending.number.name:8} after {ending.moment:5.2f} s: "
                  f"exit {ending.code}, {ending.seconds:.2f} s later", end="", flush=True)  # fmt: skip
    interrupted = [ending for ending in found if not ending.was_over]
    slowest = max(interrupted, key=lambda ending: ending.seconds)
    print(f"\n{len(interrupted)} of {len(found)} interrupted, the rest had ended; the slowest: {slowest}")
    assert slowest.seconds <= WITHIN, str(slowest)
