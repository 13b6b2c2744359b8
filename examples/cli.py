"""Train from a config file: ``python examples/cli.py fit --config configs/standard.yaml``.

The model and the data are scikit-learn's handwritten digits; put your own in their place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, Tensor]


class Digits(LightningDataModule):
    """1,437 images of 8 × 8 pixels to train on, 360 to validate.

    Args:
        batch_size: Images in a batch.
    """

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
        data = TensorDataset(((images - images.mean()) / images.std()).float(), labels)
        self.train, self.validation = torch.utils.data.random_split(
            data, [1437, 360], generator=torch.Generator().manual_seed(0)
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.validation, batch_size=360)


class Classifier(LightningModule):
    """Two hidden layers with ReLU.

    Args:
        width: Neurons of each hidden layer.
        lr: Learning rate of Adam.
    """

    def __init__(self, width: int = 64, lr: float = 1e-3) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


if __name__ == "__main__":
    LightningCLI(Classifier, Digits)
