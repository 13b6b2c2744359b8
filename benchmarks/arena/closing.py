"""What the end of a window costs, by the number of layers."""

from __future__ import annotations

from time import perf_counter
from unittest.mock import patch

import torch
from rich.table import Table
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from lightning_neurohealth.counting import merging

WIDTH = 32
LATE, MANY = 50, 100


def closing_table(sizes: tuple[int, ...] = (10, 100, 1000)) -> Table:
    """Seconds, and what several ranks would send: collectives and bytes."""
    table = Table(title=f"Closing a window, layers of {WIDTH} neurons, standard", title_justify="left")
    for column in ("layers", "seconds", "after 50 windows", "collectives", "bytes"):
        table.add_column(column, justify="right")
    for size in sizes:
        seconds, sent = close(size)
        late = f"{close(size, LATE)[0]:.2f}" if size <= MANY else ""
        table.add_row(f"{size:,}", f"{seconds:.2f}", late, str(len(sent)), f"{sum(sent):,}")
    return table


def close(layers: int, windows: int = 2) -> tuple[float, list[int]]:
    """The last of some windows of two measured steps each."""
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.LayerNorm(WIDTH)) for _ in range(layers)]
    model = nn.Sequential(*blocks)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    monitor = Monitor(model, every_n_steps=1, window="epoch")
    sent: list[int] = []

    def packed(tensors: list[Tensor], along: list[float]) -> Tensor:
        vector = pack(tensors, along)
        sent.append(vector.nbytes)
        return vector

    pack = merging._pack
    for _ in range(windows):
        for _ in range(2):
            optimizer.zero_grad()
            with monitor:
                loss = model(torch.randn(8, WIDTH)).square().mean()
                loss.backward()
                monitor.record_loss(loss)
            optimizer.step()
        sent.clear()
        with patch.object(merging, "_pack", packed):
            begun = perf_counter()
            monitor.close()
            seconds = perf_counter() - begun
    monitor.remove()
    return seconds, sent
