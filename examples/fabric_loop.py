"""Watch a loop that Lightning Fabric runs, on one process or on several."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth import Monitor


def main(devices: int = 1) -> None:
    fabric = Fabric(accelerator="cpu", devices=devices)
    fabric.launch()
    fabric.seed_everything(0)
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    images = ((images - images.mean()) / images.std()).float()
    data = fabric.setup_dataloaders(DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True))
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    model, optimizer = fabric.setup(network, torch.optim.Adam(network.parameters(), lr=1e-3))
    monitor = Monitor(network, every_n_steps=2)  # the network itself, once Fabric has set it up
    for epoch in range(3):
        for x, y in data:
            optimizer.zero_grad()
            with monitor:
                loss = F.cross_entropy(model(x), y)
                fabric.backward(loss)
                monitor.record_loss(loss)
            optimizer.step()
        report = monitor.close(epoch)  # on all ranks
        if fabric.is_global_zero:
            print(report)
    monitor.remove()


if __name__ == "__main__":
    main()
