"""What tests of generated tasks ask for."""

import torch

from carousel.lab.data import SequenceData
from carousel.lab.module import scores


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def measured(task, num=4000):
    """What each baseline scores on so many validation sequences."""
    data = SequenceData(task, 32, num)
    return {name: scores(task, predict, data.val_dataloader()) for name, predict in task.baselines().items()}
