"""Trains a small network on handwritten digits: error against the arithmetic that an image costs.

    python train.py --lr 0.01 --epochs 3        # by hand: prints its reports
    python train.py                             # in a trial: the study says all of it

The same settings and the same seed give the same reports, whether a run goes straight through or
in several runs from checkpoint to checkpoint.
"""

import argparse
import importlib.util
import os
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from primo_report import (
    checkpoint_dir,
    fidelity,
    params,
    report,
    resume_from,
    stop_on_sigterm,
)

PIXELS, CLASSES = 64, 10
VALIDATION_SHARE = 4  # every fourth image of a class
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
# A checkpoint that is missing, cut, garbage, somebody else's, or of another network.
UNUSABLE = (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, UnpicklingError)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the training depends on, and so what a checkpoint must agree with."""

    lr: float
    width: int
    layers: int
    activation: str
    batch: int
    seed: int


@dataclass(frozen=True, slots=True)
class Split:
    images: Tensor
    labels: Tensor


def main() -> None:
    stop_on_sigterm()
    torch.set_num_threads(1)  # threads cost more than they give at this size
    given = arguments()
    settings = Settings(
        given.lr, given.width, given.layers, given.activation, given.batch, given.seed
    )
    run = Run(settings, given.checkpoints)
    if given.resume:
        run.resume(at_most=given.epochs)
    training, validation = digits()
    while run.epoch < given.epochs:
        run.train_epoch(training)
        run.save()
        run.report(validation)
    if run.resumed_at == given.epochs:
        run.report(validation)  # an earlier run got this far, and its reports were lost


def arguments() -> argparse.Namespace:
    """The command line goes before the trial's parameters, and those before the defaults."""
    parser = argparse.ArgumentParser(description="Train a small network on handwritten digits.")
    parser.add_argument("--lr", type=float, default=3e-3, help="Adam's learning rate")
    parser.add_argument("--width", type=int, default=32, help="units in a hidden layer")
    parser.add_argument("--layers", type=int, default=2, help="hidden layers")
    parser.add_argument("--activation", choices=sorted(ACTIVATIONS), default="relu")
    parser.add_argument("--batch", type=int, default=32, help="images in a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=int(fidelity() or 27))
    parser.add_argument("--checkpoints", type=Path, default=checkpoint_dir(), metavar="DIR")
    parser.add_argument("--resume", action="store_true", default=resume_from() is not None)
    unknown = params().keys() - vars(parser.parse_args([]))
    if unknown:
        parser.error(f"the study has parameters that are not arguments: {', '.join(unknown)}")
    parser.set_defaults(**params())
    return parser.parse_args()


class Run:
    """A network on its way through the epochs."""

    def __init__(self, settings: Settings, checkpoints: Path | None) -> None:
        self._settings = settings
        self._checkpoint = checkpoints / "checkpoint.pt" if checkpoints else None
        self._start_over()

    def _start_over(self) -> None:
        torch.manual_seed(self._settings.seed)
        self._network = network(self._settings)
        self._optimizer = torch.optim.Adam(self._network.parameters(), self._settings.lr)
        self.epoch = self.resumed_at = 0

    def train_epoch(self, split: Split) -> None:
        # Seeded by epoch, so that a resumed run shuffles as one that goes straight through.
        shuffle = torch.Generator().manual_seed(1000 * self._settings.seed + self.epoch)
        order = torch.randperm(len(split.labels), generator=shuffle)
        self._network.train()
        for rows in order.split(self._settings.batch):
            self._optimizer.zero_grad()
            loss = nn.functional.cross_entropy(
                self._network(split.images[rows]), split.labels[rows]
            )
            loss.backward()
            self._optimizer.step()
        self.epoch += 1

    @torch.no_grad()
    def report(self, split: Split) -> None:
        self._network.eval()
        logits = self._network(split.images)
        wrong = logits.argmax(dim=1) != split.labels
        # A diverged network still guesses some digits right.
        error = wrong.float().mean() if logits.isfinite().all() else torch.nan
        report(
            step=self.epoch,
            fidelity=self.epoch,
            val_error=error,
            val_loss=nn.functional.cross_entropy(logits, split.labels),
            kmacs=multiply_adds(self._network) / 1000,
        )

    def save(self) -> None:
        """Replace the checkpoint; a kill in between leaves the one before."""
        if self._checkpoint is None:
            return
        state = {
            "settings": asdict(self._settings),
            "epoch": self.epoch,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        draft = self._checkpoint.with_suffix(".draft")
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._checkpoint)

    def resume(self, at_most: int) -> None:
        """Go on from the checkpoint; without a usable one from zero, and say so."""
        if self._checkpoint is None:
            print("no checkpoint directory: training from zero", file=sys.stderr)
            return
        try:
            self._load(torch.load(self._checkpoint, weights_only=True), at_most)
        except UNUSABLE as error:
            reason = str(error).partition(". ")[0]  # torch goes on for a page
            print(f"no usable checkpoint ({reason}): training from zero", file=sys.stderr)
            self._start_over()

    def _load(self, state: dict[str, Any], at_most: int) -> None:
        if state["settings"] != asdict(self._settings):
            raise ValueError(f"it was made with {state['settings']}")
        if state["epoch"] > at_most:
            raise ValueError(f"it has {state['epoch']} epochs, more than {at_most}")
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.epoch = self.resumed_at = state["epoch"]


def network(settings: Settings) -> nn.Sequential:
    sizes = [PIXELS] + settings.layers * [settings.width]
    hidden: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        hidden += [nn.Linear(inputs, outputs), ACTIVATIONS[settings.activation]()]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], CLASSES))


def multiply_adds(module: nn.Module) -> int:
    """Of one image; biases and activations are not counted."""
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return sum(layer.in_features * layer.out_features for layer in linear)


def digits() -> tuple[Split, Split]:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, always split the same way.

    The file is read as it lies in the package, since importing scikit-learn takes as long as the
    training.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        sys.exit("scikit-learn is not installed; its digits are what this trains on")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images, labels = torch.from_numpy(rows[:, :-1] / 16), torch.from_numpy(rows[:, -1]).long()
    validation = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(CLASSES):
        validation[(labels == digit).nonzero().squeeze()[::VALIDATION_SHARE]] = True
    return (
        Split(images[~validation], labels[~validation]),
        Split(images[validation], labels[validation]),
    )


if __name__ == "__main__":
    main()
