"""Priors that are added while a study runs."""

from typing import Any

import pytest

from primo_optimizer import AskTell, InvalidSpecError, SpaceExhaustedError, Suggestion
from support.problems import BRANIN_CURRIN

SPEC: dict[str, Any] = {**BRANIN_CURRIN.spec, "fidelity": None}
# About where the front is.
BRANIN = {"objective": "branin", "parameters": [{"name": "x", "center": 0.95}]}
CURRIN = {"objective": "currin", "parameters": [{"name": "y", "center": 0.95}]}
ALWAYS = {"name": "primo", "settings": {"epsilon": 0}}


def advanced(opt: AskTell, runs: int) -> list[Suggestion]:
    asked = []
    for _ in range(runs):
        (suggestion,) = opt.ask()
        values = BRANIN_CURRIN.evaluate(suggestion.parameters, 1.0)
        opt.tell(suggestion.trial, suggestion.fidelity, values)
        asked.append(suggestion)
    return asked


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param({"name": "primo"}, id="primo"),
        pytest.param({"name": "primo", "settings": {"paper": True}}, id="paper"),
        pytest.param({"name": "random"}, id="random"),
    ],
)
def test_what_was_suggested_before_is_suggested_again(algorithm: dict[str, Any]) -> None:
    opt = AskTell.from_spec({**SPEC, "priors": [BRANIN], "algorithm": algorithm}, seed=3)
    before = advanced(opt, 8)
    opt.add_prior(CURRIN)
    again = AskTell.from_spec(opt.state()["spec"], seed=3)
    assert advanced(again, 8) == before
    assert again.ask() == opt.ask()


def test_an_added_prior_is_as_fresh_as_the_others_were() -> None:
    opt = AskTell.from_spec({**SPEC, "priors": [BRANIN], "algorithm": ALWAYS}, seed=3)
    advanced(opt, 16)
    assert all(s.explanation["priorWeight"] == 0.0 for s in advanced(opt, 4))
    opt.add_prior(CURRIN)
    _, *after = advanced(opt, 4)  # the first is the centre
    assert {s.explanation.get("prior") for s in after} >= {"currin"}
    assert max(s.explanation["priorWeight"] for s in after) > 0.1


def test_in_the_initial_design_its_centre_is_tried() -> None:
    opt = AskTell.from_spec(SPEC)
    advanced(opt, 1)
    opt.add_prior(CURRIN)
    (suggestion,) = opt.ask()
    assert suggestion.explanation == {
        "stage": "InitialDesign",
        "origin": "PriorCenter",
        "prior": "currin",
    }


@pytest.mark.parametrize("fidelity", [None, BRANIN_CURRIN.spec["fidelity"]])
def test_later_its_centre_is_the_next_new_trial_and_no_other_is(fidelity: Any) -> None:
    opt = AskTell.from_spec({**SPEC, "fidelity": fidelity, "priors": [BRANIN]})
    advanced(opt, 30)
    opt.add_prior(CURRIN)
    number = opt.trials[-1].number + 1
    (center, *others) = opt.ask(4)
    assert center.explanation["origin"] == "PriorCenter"
    assert (center.trial, center.parameters["y"]) == (number, pytest.approx(0.95))
    assert center.fidelity == (fidelity and fidelity["min"])
    assert center.explanation["stage"] == "Optimizing"
    opt.tell(number, center.fidelity, failed="OutOfMemory")
    assert "PriorCenter" not in {s.explanation["origin"] for s in [*others, *advanced(opt, 4)]}


def test_its_centre_is_tried_after_trials_of_ones_own_unless_it_is_one_of_them() -> None:
    opt = AskTell.from_spec({**SPEC, "priors": [BRANIN, CURRIN]})
    for x in (0.1, 0.3, 0.4, 0.7, 0.95):  # of the other parameter, 0.5 is the middle
        s = opt.add({"x": x, "y": 0.5})
        opt.tell(s.trial, None, BRANIN_CURRIN.evaluate(s.parameters, 1.0))
    found = [s.explanation for s in advanced(opt, 3)]
    assert [e["prior"] for e in found if e["origin"] == "PriorCenter"] == ["currin"]


def test_its_centre_is_tried_after_a_warm_start() -> None:
    seen = AskTell.from_spec(SPEC, seed=1)
    advanced(seen, 8)
    opt = AskTell.from_spec({**SPEC, "priors": [BRANIN, CURRIN]})
    opt.learn_from(seen.trials)
    origins = [s.explanation["origin"] for s in opt.ask(4)]
    assert origins == ["PriorCenter", "PriorCenter", "Model", "Model"]


def test_its_centre_lacks_what_is_not_there_and_is_among_the_last_of_a_space() -> None:
    parameters = [
        {"name": "k", "categorical": {"choices": ["a", "b"]}},
        {"name": "n", "int": {"min": 0, "max": 4}, "when": {"k": ["b"]}},
    ]
    opt = AskTell.from_spec({**SPEC, "parameters": parameters})
    for number in range(5):
        s = opt.add({"k": "b", "n": number})
        opt.tell(s.trial, None, {"branin": number % 3, "currin": -number})
    opt.add_prior({"objective": "currin", "parameters": [{"name": "n", "center": 4}]})
    opt.add_prior({"objective": "branin", "parameters": [{"name": "k", "choice": "a"}]})
    (s,) = opt.ask(2)
    assert (s.parameters, s.explanation["origin"]) == ({"k": "a"}, "PriorCenter")
    opt.tell(s.trial, None, {"branin": 1, "currin": 1})
    with pytest.raises(SpaceExhaustedError):
        opt.ask()


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (BRANIN, "priors[1].objective: 'branin' has two priors, expected one at most"),
        ({"objective": "currin"}, "priors[1].parameters: is missing"),
        (3, "priors[1]: 3 is not an object"),
    ],
)
def test_a_prior_that_does_not_fit_changes_nothing(prior: Any, message: str) -> None:
    opt = AskTell.from_spec({**SPEC, "priors": [BRANIN]})
    before = opt.state()
    with pytest.raises(InvalidSpecError) as caught:
        opt.add_prior(prior)
    assert caught.value.problems == (message,)
    assert opt.state() == before
