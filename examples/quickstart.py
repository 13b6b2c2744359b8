"""A first finding within a minute: a layer whose neurons a wrong bias has killed."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth import NeuronHealth


class Classifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        nn.init.constant_(self.net[2].bias[:48], -10.0)  # the mistake: they never fire

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


x = torch.randn(10_000, 20)
data = DataLoader(TensorDataset(x, (x[:, 0] > x[:, 1]).long()), batch_size=64)
Trainer(max_epochs=1, callbacks=[NeuronHealth()]).fit(Classifier(), data)
