"""CPU threads that do not fight, unless the user chose otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from respodiff.trainer.base.model import load_base
from respodiff.trainer.support.threads import fitting_threads, one_thread, passive_waiting
from respodiff.trainer.toyworld import TOYWORLD

CHOOSING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


@pytest.fixture
def two_threads(monkeypatch):
    """A process that may use two threads, in which nobody chose anything."""
    for name in CHOOSING:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_waiting_threads_sleep_unless_the_user_chose():
    assert passive_waiting({}) == {"OMP_WAIT_POLICY": "PASSIVE"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        assert passive_waiting({name: "1"}) == {}


def test_toyworld_has_one_thread_and_then_all_are_back(two_threads):
    with fitting_threads(load_base(TOYWORLD).weight_bytes):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_stable_diffusion_has_all(two_threads):
    with fitting_threads(1_700_000_000):
        assert torch.get_num_threads() == 2


def test_a_chosen_number_stays(two_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert one_thread() == {}
    with fitting_threads(load_base(TOYWORLD).weight_bytes):
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("chosen", "told"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_the_command_says_so_before_torch_is_loaded(chosen, told):
    code = (
        "import os, sys\n"
        "from respodiff.trainer.__main__ import main\n"
        "sys.argv[1:] = ['--version']\n"
        "try: main()\n"
        "finally: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    kept = {name: value for name, value in os.environ.items() if name not in CHOOSING}
    done = subprocess.run([sys.executable, "-c", code], env={**kept, **chosen}, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"{told} False", done.stderr
