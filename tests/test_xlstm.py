"""Against arrays that xlstm 2.0.6 (backend "vanilla", float32) made: random weights, an input, what its cell gives.

The layers are `sLSTMLayer(sLSTMLayerConfig(embedding_dim=8, num_heads=2, conv1d_kernel_size=...))`, "plain" without
convolution and "conv" with one over 4 steps; the input is what their gates see, the output what their norm gets.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import carousel

ARRAYS = np.load(Path(__file__).parent / "data" / "xlstm.npz")


def weights(name):
    return {key.removeprefix(f"{name}."): torch.tensor(ARRAYS[key]) for key in ARRAYS if key.startswith(f"{name}.")}


@pytest.mark.parametrize("name", ["plain", "conv"])
def test_our_layer_gives_their_numbers(name):
    layer = carousel.from_xlstm(weights(name))
    output, _ = layer(torch.tensor(ARRAYS[f"{name}/input"]))
    torch.testing.assert_close(output, torch.tensor(ARRAYS[f"{name}/output"]), rtol=1e-5, atol=1e-6)


def test_the_layout_of_their_other_backend_and_another_of_ours():
    given = weights("plain")
    heads, _, size = given["slstm_cell._recurrent_kernel_"].shape
    given["slstm_cell._recurrent_kernel_"] = given["slstm_cell._recurrent_kernel_"].transpose(1, 2)
    given["slstm_cell._bias_"] = given["slstm_cell._bias_"].view(4, heads, size).transpose(0, 1).reshape(-1)
    layer = carousel.from_xlstm(given, batch_first=False, dtype=torch.float64)
    x = torch.tensor(ARRAYS["plain/input"]).double().transpose(0, 1)
    torch.testing.assert_close(layer(x)[0].transpose(0, 1).float(), torch.tensor(ARRAYS["plain/output"]))


def test_what_is_no_such_layer_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^expected the weights of an sLSTMLayer, but there is no fgate.weight, "):
        carousel.from_xlstm(torch.nn.LSTM(2, 3))
    given = weights("plain")
    given["slstm_cell._recurrent_kernel_"] = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"^expected a recurrent kernel of shape \(2, 16, 4\), got \(2, 3, 4\)"):
        carousel.from_xlstm(given)
