"""Priors that are added while a study runs."""

from typing import Any

import pytest

from primo_optimizer import AskTell, InvalidSpecError, Suggestion
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
        opt.tell(suggestion.trial, None, values)
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
    after = advanced(opt, 3)
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
