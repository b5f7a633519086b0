"""Every field of a spec that may be edited, back and forth: the end is that of the last spec."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.simulation.api import merged
from support.simulation.scenario import Scenario, study_spec
from support.simulation.world import World

SCENARIO = Scenario(trials=4, parallelism=2, rungs=2)
CRD = Path(__file__).parents[2] / "crds" / "primostudies.yaml"
PRIOR = {"objective": "error", "confidence": 0.5, "parameters": [{"name": "x", "center": 5}]}
CONTAINER = {"name": "train", "image": "another", "command": ["c"]}


@dataclass(frozen=True)
class Edit:
    """A field's other value, and its first one again; `back` is None where nothing leads back."""

    there: Any
    back: Any = None
    returns: bool = True


EDITS = {
    "budget.trials": Edit({"budget": {"trials": 6}}, returns=False),
    "budget.fullEvaluations": Edit(
        {"budget": {"fullEvaluations": 99}}, {"budget": {"fullEvaluations": None}}
    ),
    "budget.failedTrials": Edit(
        {"budget": {"failedTrials": 9}}, {"budget": {"failedTrials": None}}
    ),
    "budget.duration": Edit({"budget": {"duration": "24h"}}, {"budget": {"duration": None}}),
    # Without a GPU in the template it is a mistake: the study fails, and recovers.
    "budget.gpuHours": Edit({"budget": {"gpuHours": 5}}, {"budget": {"gpuHours": None}}),
    "parallelism": Edit({"parallelism": 1}, {"parallelism": 2}),
    "suspend": Edit({"suspend": True}, {"suspend": False}),
    "onComplete": Edit({"onComplete": "Terminate"}, {"onComplete": None}),
    "retries.infrastructure": Edit(
        {"retries": {"infrastructure": 0}}, {"retries": {"infrastructure": 20}}
    ),
    "retries.application": Edit(
        {"retries": {"application": 2}}, {"retries": {"application": None}}
    ),
    "retention.jobs": Edit({"retention": {"jobs": "None"}}, {"retention": None}),
    "retention.ttl": Edit({"retention": {"ttl": "5s"}}, {"retention": None}),
    "priors": Edit({"priors": [PRIOR]}, returns=False),
    "preferences": Edit({"preferences": {"weights": {"error": 1}}}, {"preferences": None}),
    "warmStart": Edit({"warmStart": [{"study": "nobody"}]}, {"warmStart": None}),
    "trialTemplate": Edit(
        {
            "suspend": True,
            "trialTemplate": {"spec": {"template": {"spec": {"containers": [CONTAINER]}}}},
        },
        {"suspend": False, "trialTemplate": study_spec(SCENARIO)["trialTemplate"]},
    ),
    # It got past the API server, and she corrects it.
    "parallelism, no good": Edit({"parallelism": -1}, {"parallelism": 2}),
    "objectives, no good": Edit(
        {"objectives": []}, {"objectives": study_spec(SCENARIO)["objectives"]}
    ),
}


def editable() -> set[str]:
    """Fields that no rule of the definition holds fast, as paths; structures by their fields."""
    version = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rules = [rule["rule"] for rule in spec["x-kubernetes-validations"]]
    found = set()
    for name, schema in spec["properties"].items():
        if any(rule.endswith(f"self.{name} == oldSelf.{name}") for rule in rules):
            continue
        if any(rule.endswith(f"self.{name} == oldSelf.{name})") for rule in rules):
            continue
        parts = schema.get("properties") if name in ("budget", "retries", "retention") else None
        found |= {f"{name}.{part}" for part in parts} if parts else {name}
    return found


def test_every_field_that_may_be_edited_is_edited_here() -> None:
    assert editable() == {name for name in EDITS if "," not in name}


def ended(*edits: tuple[float, Any], seed: int = 0, spec: Any = None) -> World:
    """A study that is edited at these times."""
    world = World(SCENARIO, seed)
    if spec:
        world.user.edit_study(spec)
    for at, edit in edits:
        world.after(at, lambda edit=edit: world.user.edit_study(edit))
    world.advance(max([at for at, _ in edits], default=0.0) + 1.0)
    world.run(rest=False)
    return world


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_back_and_forth_leads_to_the_same_end(edit: Edit) -> None:
    last = {} if edit.returns else edit.there
    fresh = ended(spec=last)
    for seed, (there, back) in enumerate(((1.3, 6.0), (9.0, 40.0), (20.0, 21.0))):
        edits = [(there, edit.there), *([(back, edit.back)] if edit.returns else [])]
        world = ended(*edits, seed=seed)
        assert world.spec == merged(study_spec(SCENARIO), last) | _said(world.spec)
        assert world.result() == fresh.result(), f"{there} s and {back} s"


def _said(spec: Any) -> Any:
    """What an edit back leaves, where there was nothing before."""
    return {name: spec[name] for name in ("suspend",) if name in spec and not spec[name]}
