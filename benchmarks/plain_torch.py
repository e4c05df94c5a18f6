"""The vehicle job as PyTorch's tutorial writes it; prints the seconds of an epoch.

    python benchmarks/plain_torch.py FOLDER SHARE light|none

Run by `training.py vehicles --torch-python PATH`, in an interpreter that has torchvision. Two
epochs are timed, validation included, on SHARE of the batches, after three batches of warm-up.
"""

import sys
import time
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, random_split
from torchvision import datasets, models, transforms

BATCH, SIZE, WORKERS = 32, 224, 2
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def readers(folder: str, augmented: bool) -> list[DataLoader]:
    """Four fifths to train on, one to validate."""
    shown = [transforms.Resize((SIZE, SIZE))]
    if augmented:
        shown = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
    both = [transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
    photos = datasets.ImageFolder(folder, transforms.Compose([*shown, *both]))
    parts = random_split(photos, [0.8, 0.2], torch.Generator().manual_seed(0))
    return [DataLoader(part, BATCH, shuffle=True, num_workers=WORKERS) for part in parts]


def epoch(model: nn.Module, loader: DataLoader, batches: int, optimizer: Any = None) -> None:
    for number, (pixels, labels) in enumerate(loader):
        if number == batches:
            return
        with torch.set_grad_enabled(optimizer is not None):
            loss = nn.functional.cross_entropy(model(pixels), labels)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main(folder: str, share: float, augment: str) -> None:
    """Prints the seconds of one epoch of all batches."""
    train, val = readers(folder, augment != "none")
    model = models.vgg16(weights=None)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.classifier[-1] = nn.Linear(4096, len(train.dataset.dataset.classes))
    optimizer = torch.optim.SGD(model.classifier[-1].parameters(), 0.001, momentum=0.9)
    epoch(model.train(), train, 3, optimizer)
    steps = [max(round(share * len(loader)), 1) for loader in (train, val)]
    started = time.perf_counter()
    for _ in range(2):
        epoch(model.train(), train, steps[0], optimizer)
        epoch(model.eval(), val, steps[1])
    print((time.perf_counter() - started) / 2 * (len(train) + len(val)) / sum(steps))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
