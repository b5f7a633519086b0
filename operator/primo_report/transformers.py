"""A callback for the Trainer of Hugging Face's transformers.

    from primo_report.transformers import ReportCallback
    trainer = Trainer(..., callbacks=[ReportCallback()])

It reports each evaluation, and what is logged of the training in between.
"""

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any, Literal

from primo_report.callbacks import reportable
from primo_report.client import report

_Callback: Any = import_module("transformers").TrainerCallback


class ReportCallback(_Callback):  # type: ignore[misc]  # known only when it runs
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
            metrics: the names to report, such as eval_loss; None is every single number.
            fidelity: what the study's fidelity counts, if it is one of these.
        """
        self.reported = False
        self._metrics = metrics
        self._fidelity = fidelity

    def on_evaluate(
        self,
        args: Any,  # noqa: ARG002
        state: Any,
        control: Any,  # noqa: ARG002
        metrics: Mapping[str, object],
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self._report(state, metrics, reached=True)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,  # noqa: ARG002
        logs: Mapping[str, object],
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        # Evaluations are logged as well, and so is a summary at the end: "loss" is the training's.
        if "loss" in logs:
            # The fidelity is reached once the evaluation there is, if there is any.
            self._report(state, logs, reached=args.eval_strategy == "no")

    def _report(self, state: Any, values: Mapping[str, object], reached: bool) -> None:
        # Counted in fractions: what ends an epoch is whole but for rounding.
        epochs = round(state.epoch or 0, 6)
        fidelity = {"epochs": epochs, "steps": state.global_step, None: None}[self._fidelity]
        metrics = reportable({k: v for k, v in values.items() if k != "epoch"}, self._metrics)
        # The same in all processes: what a script does about it they do together.
        self.reported |= bool(metrics)
        if metrics and state.is_world_process_zero:
            report(state.global_step, fidelity if reached else None, **metrics)
