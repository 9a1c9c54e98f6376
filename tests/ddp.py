"""Run by test_ddp.py in two processes: every cell at once under Lightning's strategy=ddp, against one process."""

import sys

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from twins import CATALOGUE, fill

import carousel

SEQUENCES = torch.randn(16, 5, 2, generator=torch.Generator().manual_seed(1))


class EveryCell(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleDict(
            {name: fill(carousel.Recurrent(c, 2, 3, bidirectional=True, **o)) for name, (c, o) in CATALOGUE.items()}
        )

    def loss(self, x):
        return sum(layer(x.transpose(0, 1))[0].pow(2).mean() for layer in self.layers.values())

    def training_step(self, batch, _):
        return self.loss(batch[0])

    def train_dataloader(self):
        data = TensorDataset(SEQUENCES)
        return DataLoader(data, batch_size=4, sampler=DistributedSampler(data, shuffle=False))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main():
    module = EveryCell()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module)
    assert trainer.world_size == 2
    assert trainer.global_step == 4

    alone = EveryCell()
    optimizer = alone.configure_optimizers()
    for _ in range(2):
        for batch in SEQUENCES.split(8):  # the sampler deals the sequences out in turns, 4 to each process
            optimizer.zero_grad()
            alone.loss(batch).backward()
            optimizer.step()
    for (name, a), b in zip(module.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a.data, b.data, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    print(f"rank {trainer.global_rank}: {len(module.layers)} layers agree", flush=True)


if __name__ == "__main__":
    sys.exit(main())
