"""Optimizers by name, each with the module that drives it and the environment it runs in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """An optimizer to be benchmarked.

    Attributes:
        module: in this package; its `make` gives an `adapter.Optimizer`.
        variant: which of the module's optimizers.
        environment: folder below .envs; None is the environment of the runner.
        uses_priors: without it, prior settings make no difference and only `none` is run.
    """

    module: str
    variant: str
    environment: str | None = None
    uses_priors: bool = False


OPTIMIZERS = {
    "primo": Entry("ours", "primo", uses_priors=True),
    "primo-cuda": Entry("ours", "primo-cuda", uses_priors=True),
    "moasha": Entry("ours", "moasha"),
    "qlognehvi": Entry("ours", "qlognehvi"),
    "parego": Entry("ours", "parego"),
    "random": Entry("ours", "random", uses_priors=True),
    "neps-primo": Entry("neps_primo", "primo", "neps", uses_priors=True),
    "neps-moasha": Entry("neps_primo", "moasha", "neps"),
    "optuna-tpe": Entry("optuna_samplers", "tpe", "optuna"),
    "optuna-gp": Entry("optuna_samplers", "gp", "optuna"),
    "optuna-nsga2": Entry("optuna_samplers", "nsga2", "optuna"),
    "botorch-qlognehvi": Entry("botorch_qlognehvi", "qlognehvi", "botorch"),
    "ax": Entry("ax_client", "ax", "ax"),
}
