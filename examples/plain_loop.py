"""Watch a hand-written training loop, without a Trainer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from lightning_neurohealth import Monitor


def main() -> None:
    torch.manual_seed(0)
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    images = ((images - images.mean()) / images.std()).float()
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    monitor = Monitor(model, every_n_steps=2)
    for epoch in range(3):
        for rows in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            with monitor:
                loss = F.cross_entropy(model(images[rows]), labels[rows])
                loss.backward()
                monitor.record_loss(loss)
            optimizer.step()
        print(monitor.close(epoch))
    monitor.remove()


if __name__ == "__main__":
    main()
