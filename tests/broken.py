"""Layers that pass every check and break once training has begun."""

import os
import signal

import torch

import carousel


class Raises(carousel.RNN):
    def forward(self, *arguments, **options):
        if torch.is_grad_enabled():
            raise ValueError("it broke\nin two lines")
        return super().forward(*arguments, **options)


class Dies(carousel.RNN):
    def forward(self, *arguments, **options):
        if torch.is_grad_enabled():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(*arguments, **options)


class Typo(carousel.LSTMCell):
    """A mistake in the code of a cell of one's own."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.bias.unsqueezed(0)
