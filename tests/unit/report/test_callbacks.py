"""The callbacks, called as the frameworks call them, and by the frameworks where installed."""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from primo_report.environment import RANKS

LIGHTNING = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name.partition(".")[0]) is None,
            reason=f"{name} is not installed",
        ),
    )
    for name in ("lightning.pytorch", "pytorch_lightning")
]
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)


@pytest.fixture(autouse=True)
def report_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PRIMO_") or name in RANKS]:
        monkeypatch.delenv(name)
    path = tmp_path / "reports.jsonl"
    monkeypatch.setenv("PRIMO_REPORT_FILE", str(path))
    return path


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """The base class is chosen when a module is loaded."""
    yield
    for name in ("primo_report.lightning", "primo_report.transformers"):
        sys.modules.pop(name, None)


def reports(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


class Base:
    """Stands for Lightning's Callback and the Trainer's: both do nothing by themselves."""


def module(name: str, **contents: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(contents)
    return made


@pytest.fixture
def lightning_callback(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "lightning", module("lightning"))
    fake = module("lightning.pytorch", Callback=Base)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", fake)
    return importlib.import_module("primo_report.lightning").ReportCallback


def lightning_trainer(**fields: Any) -> SimpleNamespace:
    """What the callback looks at of a Trainer."""
    defaults = {
        "sanity_checking": False,
        "state": SimpleNamespace(fn="fit"),
        "is_last_batch": True,
        "enable_validation": True,
        "is_global_zero": True,
        "current_epoch": 2,
        "global_step": 30,
        "callback_metrics": {"val_error": torch.tensor(0.25)},
    }
    return SimpleNamespace(**(defaults | fields))


def test_an_epoch_is_reported_after_its_validation(
    lightning_callback: Any, report_file: Path
) -> None:
    callback, trainer = lightning_callback(), lightning_trainer()
    callback.on_train_epoch_start(trainer, None)
    callback.on_validation_end(trainer, None)
    assert reports(report_file) == []
    trainer.callback_metrics["train_loss"] = torch.tensor(1.5)
    callback.on_train_epoch_end(trainer, None)
    assert reports(report_file) == [
        {"step": 30, "fidelity": 3, "metrics": {"val_error": 0.25, "train_loss": 1.5}}
    ]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        pytest.param({"sanity_checking": True}, [], id="a sanity check"),
        pytest.param({"is_global_zero": False, "is_last_batch": False}, [], id="another process"),
        pytest.param(
            {"is_last_batch": False},
            [{"step": 30, "metrics": {"val_error": 0.25}}],
            id="within an epoch: without fidelity",
        ),
        pytest.param(
            {"state": SimpleNamespace(fn="validate")},
            [{"step": 30, "metrics": {"val_error": 0.25}}],
            id="after the training",
        ),
    ],
)
def test_a_validation_that_ends_no_epoch(
    fields: dict[str, Any],
    found: list[dict[str, Any]],
    lightning_callback: Any,
    report_file: Path,
) -> None:
    lightning_callback().on_validation_end(lightning_trainer(**fields), None)
    assert reports(report_file) == found


def test_an_epoch_without_its_own_validation_is_not_reported(
    lightning_callback: Any, report_file: Path
) -> None:
    callback = lightning_callback()
    callback.on_train_epoch_start(lightning_trainer(), None)
    callback.on_train_epoch_end(lightning_trainer(), None)
    assert reports(report_file) == []
    callback.on_train_epoch_end(lightning_trainer(enable_validation=False), None)
    assert len(reports(report_file)) == 1


@pytest.mark.parametrize("first", [True, False])
def test_all_processes_of_a_training_know_whether_it_has_reported(
    first: bool, lightning_callback: Any, report_file: Path
) -> None:
    """Else some of them evaluate once more at the end, and wait for the others for ever."""
    callback = lightning_callback()
    assert not callback.reported
    callback.on_validation_end(lightning_trainer(is_last_batch=False, is_global_zero=first), None)
    assert callback.reported
    assert len(reports(report_file)) == first


def test_what_is_reported_can_be_chosen(lightning_callback: Any, report_file: Path) -> None:
    callback = lightning_callback(metrics=["val_error"], fidelity="steps")
    metrics = {"val_error": torch.tensor(0.5), "other": torch.tensor(1.0)}
    callback.on_train_epoch_end(
        lightning_trainer(callback_metrics=metrics, enable_validation=False), None
    )
    assert reports(report_file) == [{"step": 30, "fidelity": 30, "metrics": {"val_error": 0.5}}]


def test_what_the_study_needs_goes_first_and_what_is_no_number_is_left_out(
    lightning_callback: Any, report_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIMO_METRICS", '["needed"]')
    values: dict[str, object] = {f"metric{number}": number for number in range(100)}
    values |= {"matrix": torch.zeros(2, 2), "text": "x", "": 1.0, "step": 7, "fidelity": 7}
    values["needed"] = np.float32(0.5)
    callback = lightning_callback()
    callback.on_train_epoch_end(
        lightning_trainer(callback_metrics=values, enable_validation=False), None
    )
    (found,) = reports(report_file)
    assert list(found["metrics"])[:2] == ["needed", "metric0"]
    assert len(found["metrics"]) == 64


def test_without_lightning_the_module_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"needs one of lightning\.pytorch, pytorch_lightning"):
        importlib.import_module("primo_report.lightning")


@pytest.fixture
def transformers_callback(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "transformers", module("transformers", TrainerCallback=Base))
    return importlib.import_module("primo_report.transformers").ReportCallback


def trainer_state(**fields: Any) -> SimpleNamespace:
    defaults = {"is_world_process_zero": True, "epoch": 2.9999999, "global_step": 30}
    return SimpleNamespace(**(defaults | fields))


def test_evaluations_are_reported_once_and_the_training_between_them(
    transformers_callback: Any, report_file: Path
) -> None:
    callback, state = transformers_callback(), trainer_state()
    args = SimpleNamespace(eval_strategy="epoch")
    evaluation = {"eval_loss": 0.5, "eval_f1": np.float64(0.25), "epoch": 3.0}
    callback.on_log(args, state, None, logs={"loss": 2.0, "epoch": 3.0})
    callback.on_log(args, state, None, logs=evaluation)
    callback.on_evaluate(args, state, None, metrics=evaluation, model=None)
    callback.on_log(args, state, None, logs={"train_loss": 1.0, "epoch": 3.0})
    other, elsewhere = transformers_callback(), trainer_state(is_world_process_zero=False)
    assert not other.reported
    other.on_evaluate(args, elsewhere, None, metrics=evaluation)
    assert other.reported, "as in all processes"
    assert reports(report_file) == [
        {"step": 30, "metrics": {"loss": 2.0}},
        {"step": 30, "fidelity": 3, "metrics": {"eval_loss": 0.5, "eval_f1": 0.25}},
    ]


def test_a_training_that_is_never_evaluated_reaches_its_fidelity_too(
    transformers_callback: Any, report_file: Path
) -> None:
    args = SimpleNamespace(eval_strategy="no")
    transformers_callback().on_log(args, trainer_state(), None, logs={"loss": 2.0})
    assert reports(report_file) == [{"step": 30, "fidelity": 3, "metrics": {"loss": 2.0}}]


@pytest.mark.parametrize("package", LIGHTNING)
@pytest.mark.parametrize(
    ("options", "fidelities"),
    [
        pytest.param({}, [1, 2], id="validation after each epoch"),
        pytest.param({"val_check_interval": 0.5}, [None, 1, None, 2], id="twice an epoch"),
        pytest.param({"check_val_every_n_epoch": 2}, [2], id="every other epoch"),
        pytest.param({"limit_val_batches": 0}, [1, 2], id="without validation"),
    ],
)
def test_lightnings_trainer(
    package: str,
    options: dict[str, Any],
    fidelities: list[int | None],
    report_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pl = importlib.import_module(package)
    for name in {"lightning.pytorch", "pytorch_lightning"} - {package}:
        monkeypatch.delitem(sys.modules, name, raising=False)  # the script imports one of them
    callback = importlib.import_module("primo_report.lightning").ReportCallback()
    assert isinstance(callback, pl.Callback)

    class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = self.layer(batch[0]).square().mean()
            self.log("train_epoch", float(self.current_epoch), on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_epoch", float(self.current_epoch))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    data = torch.utils.data.TensorDataset(torch.ones(8, 2))
    loaders = [torch.utils.data.DataLoader(data, batch_size=2) for _ in range(2)]
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[callback],
        **options,
    )
    trainer.fit(Module(), *loaders)
    found = reports(report_file)
    assert [report.get("fidelity") for report in found] == fidelities
    for report in found:
        if "fidelity" in report:  # nothing of an earlier epoch
            assert set(report["metrics"].values()) == {report["fidelity"] - 1}


@needs_transformers
def test_transformers_trainer(report_file: Path, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    callback = importlib.import_module("primo_report.transformers").ReportCallback()

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            out = self.layer(x)
            return {"loss": (out.squeeze(-1) - labels).square().mean(), "logits": out}

    data = [{"x": torch.ones(2), "labels": torch.tensor(1.0)}] * 12
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=3,
        per_device_train_batch_size=4,
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    Trainer(
        model=Model(),
        args=arguments,
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=lambda found: {"mean": float(found.predictions.mean())},
        callbacks=[callback],
    ).train()
    found = reports(report_file)
    evaluations = [report for report in found if "eval_loss" in report["metrics"]]
    assert [report["fidelity"] for report in evaluations] == [1, 2, 3]
    assert all("eval_mean" in report["metrics"] for report in evaluations)
    training = [report for report in found if "loss" in report["metrics"]]
    assert [report["step"] for report in training] == list(range(1, 10))
    assert not any("fidelity" in report for report in training)
