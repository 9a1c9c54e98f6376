"""Parts that pass every check and break once training has begun."""

import os
import resource
import signal
from pathlib import Path

import lightning as L
import torch

import carousel
from carousel.lab import records


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


class Fills(carousel.RNN):
    """Memory, of which the process has 64 MiB left: with tensors, or to the last KiB with Python's own objects."""

    def forward(self, *arguments, **options):
        if torch.is_grad_enabled():
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**26, most))
            taken = []
            while True:
                taken.append(self.some())
        return super().forward(*arguments, **options)

    def some(self):
        return torch.ones(2**20)


class FillsToTheLast(Fills):
    def some(self):
        return bytearray(2**10)


class Typo(carousel.LSTMCell):
    """A mistake in the code of a cell of one's own."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.bias.unsqueezed(0)


class DiesAtTheEnd(L.Callback):
    """Once, just before or after the record that says that the run has ended."""

    def __init__(self, when):
        self.when = when

    def on_test_end(self, trainer, module):
        write = records.write_record

        def die(when, died=Path("died")):
            if when == self.when and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        def write_and_die(folder, record):
            die("before")
            write(folder, record)
            die("after")

        records.write_record = write_and_die
