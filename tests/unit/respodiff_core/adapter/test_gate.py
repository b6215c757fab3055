"""The gate of an axis: which prompts it leaves alone, and how it is kept in the file."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapters import random_contrast, random_gate
from respodiff.respodiff_core.adapter.adapter import Adapter, merge, read, write
from respodiff.respodiff_core.adapter.contrast import ContrastConcept
from respodiff.respodiff_core.adapter.gate import THRESHOLD, Gate
from respodiff.respodiff_core.errors import AdapterFileError, StrengthError
from respodiff.respodiff_core.steering.steering import Steering, Term
from safetensors import safe_open
from safetensors.torch import save_file


def gated(name: str, gate: Gate) -> ContrastConcept:
    concept = random_contrast(name, category="fairness", axis="gender")
    return replace(concept, gate=gate)


def test_what_is_written_is_read(tmp_path):
    gate = random_gate(groups=2)
    adapter = Adapter("sd15", {"woman": gated("woman", gate), "man": random_contrast("man")}, prediction="epsilon")
    found = read(write(adapter, tmp_path / "gender.safetensors")).concepts
    assert found["woman"].gate == gate
    assert found["man"].gate is None
    assert found["woman"].sites == adapter.concepts["woman"].sites


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gate.center": None}, "has only gate.level and gate.reading of a gate"),
        ({"gate.center": torch.zeros(7)}, "has a gate of the shapes (7,), (2, 6) and (2,)"),
        ({"gate.level": torch.zeros(3)}, "expected (C,), (G, C) and (G,) for G groups"),
        ({"gate.level": torch.zeros(17), "gate.reading": torch.zeros(17, 6)}, "(at most 16)"),
        ({"gate.level": torch.zeros(2, 1)}, "expected (C,), (G, C) and (G,)"),
    ],
)
def test_a_gate_that_means_nothing_is_refused(tmp_path, changes, said):
    path = write(Adapter("sd15", {"woman": gated("woman", random_gate(groups=2))}), tmp_path / "a.safetensors")
    with safe_open(str(path), "pt") as file:
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
        metadata = file.metadata()
    for name, tensor in changes.items():
        del tensors[f"woman.{name}"]
        if tensor is not None:
            tensors[f"woman.{name}"] = tensor
    save_file(tensors, str(path), metadata)
    with pytest.raises(AdapterFileError) as raised:
        read(path)
    assert said in str(raised.value)


def test_it_closes_where_any_token_names_any_group():
    gate = Gate(torch.zeros(3), torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]), torch.tensor([0.0, -0.5]))
    tokens = torch.tensor(
        [
            [[0.0, 0, 1], [0, 0, 5]],  # neither group
            [[0.0, 0, 1], [5, 0, 0]],  # the first, whatever the token's norm
            [[0.0, 1, 0], [0, 0, 1]],  # the second
            [[0.0, 1, 3], [0, 0, 1]],  # too little of the second
        ]
    )
    assert gate.is_open(tokens).tolist() == [True, False, False, True]
    assert (gate.responses(tokens).amax(1) >= THRESHOLD).tolist() == [False, True, True, False]


def test_text_encodings_of_another_width_open_it():
    assert random_gate(groups=2).is_open(torch.randn(3, 4, 5)).tolist() == [True] * 3


def test_groups_of_one_axis_share_a_decision():
    first, again, other = random_gate(groups=2), random_gate(groups=2), random_gate(groups=2, seed=1)
    assert first == again
    assert first != other
    terms = [Term(gated(name, gate), 1.0, gated=True) for name, gate in zip("abc", (first, again, other), strict=True)]
    assert [group.gate for group in Steering(tuple(terms)).groups()] == [first, other]
    assert len(Steering(tuple(Term(term.concept, 1.0) for term in terms)).groups()) == 1


def test_a_concept_without_a_gate_cannot_be_gated():
    with pytest.raises(StrengthError, match="'man' has no gate"):
        Term(random_contrast("man"), 1.0, gated=True)


def test_gates_survive_merging():
    gate = random_gate(groups=2)
    parts = [Adapter("sd15", {name: gated(name, gate)}, prediction="epsilon") for name in ("woman", "man")]
    assert {concept.gate for concept in merge(parts).concepts.values()} == {gate}
