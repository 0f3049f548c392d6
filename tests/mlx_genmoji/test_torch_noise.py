"""The noise of PyTorch's CPU generator, against PyTorch itself."""

import mlx.core as mx
import numpy as np
import pytest
import torch

from mlx_genmoji.samplers.torch_noise import TorchGenerator

SHAPES = [(1, 4, 8, 8), (3,), (16,), (1,), (5,), (17,), (15,), (2, 2), (1, 4, 5, 5), (2, 4, 64, 64), (1, 4, 31, 33)]


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31 - 1, 2**32 - 1, 2**32 + 5, 2**62])
def test_a_seed_gives_the_numbers_of_torch_call_after_call(seed: int) -> None:
    """Fewer than 16 numbers come from another path than 16 or more, and an odd one is kept for the next call."""
    theirs, ours = torch.Generator().manual_seed(seed), TorchGenerator(seed)
    for shape in SHAPES:
        expected = torch.randn(shape, generator=theirs).numpy()
        actual = ours.randn(shape)
        assert actual.dtype == np.float32
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)


def test_latents_are_drawn_in_the_order_of_torch_s_layout() -> None:
    expected = torch.randn((1, 4, 6, 10), generator=torch.Generator().manual_seed(7)).permute(0, 2, 3, 1).numpy()
    actual = TorchGenerator(7).latents((1, 6, 10, 4))
    assert actual.dtype == mx.float32
    np.testing.assert_allclose(np.array(actual), expected, rtol=2e-6, atol=2e-6)
