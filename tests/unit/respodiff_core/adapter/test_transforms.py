"""What each module kind adds to h."""

from __future__ import annotations

import pytest
import torch
from adapters import SIZES, random_transform
from respodiff.respodiff_core.adapter.transforms import Transform, is_finite
from respodiff.respodiff_core.errors import AdapterFileError

C, H, W = SIZES["C"], SIZES["H"], SIZES["W"]


def torch_modules(kind, tensors):
    """The same architecture spelled with torch.nn, as a check from outside."""
    nn = torch.nn
    if kind == "mlp":
        module = nn.Sequential(nn.Conv2d(C, 3, 1), nn.SiLU(), nn.Conv2d(3, C, 1))
        names = {"0": "fc1", "2": "fc2"}
    else:
        module = nn.Sequential(
            nn.Conv2d(C, 3, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(3, 3, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(3, C, 3, padding=1),
        )
        names = {"0": "conv1", "2": "conv2", "4": "conv3"}
    own = module.state_dict()
    module.load_state_dict({k: tensors[f"{names[k[0]]}{k[1:]}"].view(own[k].shape) for k in own})
    return module


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_modules_that_look_at_h_are_what_their_names_say(kind):
    transform = random_transform(kind)
    h = torch.randn(2, C, 5, 7)
    assert transform.depends_on_h
    torch.testing.assert_close(transform(h), torch_modules(kind, transform.tensors)(h))


def test_a_constant_is_added_as_it_is_at_its_native_size():
    transform = random_transform("constant")
    assert torch.equal(transform(torch.zeros(2, C, H, W)), transform.tensors[""])
    assert transform.native_size == (H, W)


@pytest.mark.parametrize("size", [(8, 8), (2, 2), (3, 7), (1, 1), (4, 12)])
def test_a_constant_fits_any_size(size):
    field = random_transform("constant").field(*size)
    assert field.shape == (C, *size)


def test_resampling_keeps_the_mean_when_h_is_half_as_large():
    transform = random_transform("constant")
    small = transform.field(H // 2, W // 2)
    flat = Transform.of({"": torch.full((C, H, W), 3.0)})
    torch.testing.assert_close(flat.field(3, 9), torch.full((C, 3, 9), 3.0))
    assert (small.mean((1, 2)) - transform.tensors[""].mean((1, 2))).abs().max() < 0.35


def test_a_channel_module_is_the_same_everywhere():
    transform = random_transform("channel")
    assert transform(torch.zeros(1, C, 9, 2)).shape == (C, 1, 1)
    assert transform.native_size is None
    assert transform.channels == C


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_modules_that_look_at_h_have_no_mean(kind):
    with pytest.raises(AdapterFileError, match="depends on h"):
        random_transform(kind).averaged_over_space()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_are_finite_also_where_their_sum_is_not(dtype):
    largest = torch.finfo(dtype).max
    assert is_finite(torch.full((2, 3), largest, dtype=dtype))
    assert is_finite(torch.zeros(0, dtype=dtype))
    for broken in (torch.nan, torch.inf, -torch.inf):
        assert not is_finite(torch.tensor([1.0, broken], dtype=dtype))
    assert not is_finite(torch.tensor([torch.inf, -torch.inf], dtype=dtype))
