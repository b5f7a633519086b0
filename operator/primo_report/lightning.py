"""A callback for the Trainer of Lightning, under either of its names.

    from primo_report.lightning import ReportCallback
    trainer = Trainer(max_epochs=fidelity(10), callbacks=[ReportCallback()])

It reports what `self.log` has collected, after each epoch of training and its validation, and
after validations in between.
"""

import sys
from collections.abc import Collection
from importlib import import_module
from typing import Any, Final, Literal

from primo_report.callbacks import reportable
from primo_report.client import report

_PACKAGES: Final = ("lightning.pytorch", "pytorch_lightning")


def _callback() -> Any:
    """The base class, of the package that the script uses if both are installed."""
    for name in sorted(_PACKAGES, key=lambda name: name not in sys.modules):
        try:
            return import_module(name).Callback
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):
                raise
    raise ImportError(f"primo_report.lightning needs one of {', '.join(_PACKAGES)}")


class ReportCallback(_callback()):  # type: ignore[misc]  # known only when it runs
    """Reports to the trial; prints outside of one.

    Attributes:
        reported: whether there was anything to report, in any process of the training; a repeated
            run that finds the work done has nothing.
    """

    def __init__(
        self,
        metrics: Collection[str] | None = None,
        fidelity: Literal["epochs", "steps"] | None = "epochs",
    ) -> None:
        """Choose what is reported.

        Args:
            metrics: the names to report; None is every single number that was logged.
            fidelity: what the study's fidelity counts, if it is one of these.
        """
        super().__init__()
        self.reported = False
        self._metrics = metrics
        self._fidelity = fidelity
        self._epoch_validated = False

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self._epoch_validated = False

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        if trainer.sanity_checking:
            return
        # The validation that ends an epoch is reported with the epoch's own metrics: before,
        # those are still of the epoch before it.
        if trainer.state.fn == "fit" and trainer.is_last_batch:
            self._epoch_validated = True
        else:
            self._report(trainer, epochs=None)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        # An epoch without validation has the metrics of an earlier one: they are not news.
        if self._epoch_validated or not trainer.enable_validation:
            self._report(trainer, epochs=trainer.current_epoch + 1)

    def _report(self, trainer: Any, epochs: int | None) -> None:
        fidelity = {"epochs": epochs, "steps": trainer.global_step, None: None}[self._fidelity]
        metrics = reportable(trainer.callback_metrics, self._metrics)
        # The same in all processes: what a script does about it they do together.
        self.reported |= bool(metrics)
        if metrics and trainer.is_global_zero:
            report(trainer.global_step, fidelity, **metrics)
