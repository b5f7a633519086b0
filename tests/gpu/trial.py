"""Trains a network on the GPU that its pod was lent: error against the energy of the training."""

import json
import os
import time
from pathlib import Path

import torch

from primo_report import fidelity, gpu_energy, params, report

began = time.monotonic()
gpu_energy()
(name,) = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
given = params()
torch.manual_seed(0)
X = torch.randn(65536, 256, device="cuda")
y = torch.sin(X[:, :8].sum(dim=1, keepdim=True))
network = torch.nn.Sequential(
    torch.nn.Linear(256, given["width"]), torch.nn.ReLU(), torch.nn.Linear(given["width"], 1)
).cuda()
optimizer = torch.optim.Adam(network.parameters(), given["lr"])
for epoch in range(1, int(fidelity() or 1) + 1):
    for _ in range(100):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(network(X), y)
        loss.backward()
        optimizer.step()
    report(step=epoch, fidelity=epoch, val_error=loss.item(), energy_j=gpu_energy())
with Path(os.environ["DIARY"]).open("a") as diary:
    diary.write(json.dumps([name, began, time.monotonic()]) + "\n")
