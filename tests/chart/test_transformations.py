"""Grafana's own code makes columns of answers: those that tables and charts are drawn from."""

import pytest

from support.grafana import Answer, needs_grafana, shown, table

pytestmark = needs_grafana


def of_trials(*values: tuple[int, float], **labels: str) -> Answer:
    return [({"trial": str(number), **labels}, value) for number, value in values]


FRONT = "Pareto front: $objective_y over $objective_x"


def test_the_front_has_a_row_for_each_trial() -> None:
    """Both objectives, and the second once more of those on the front."""
    answers = {
        "A": of_trials((0, 5.0), (1, 7.0), (10, 3.0)),
        "B": of_trials((0, 0.5), (1, 0.6), (10, 0.7)),
        "C": of_trials((10, 0.7), (0, 0.5)),
    }
    frames = [table(letter, answer, alone=False) for letter, answer in answers.items()]
    found = shown("study", FRONT, frames)
    assert list(found) == ["trial", "x", "all trials", "Pareto front"]
    assert list(zip(*found.values(), strict=True)) == [
        ("0", 5.0, 0.5, 0.5),
        ("1", 7.0, 0.6, None),
        ("10", 3.0, 0.7, 0.7),
    ]


def test_a_trial_that_lacks_an_objective_has_its_row_too() -> None:
    frames = [
        table("A", of_trials((0, 5.0), (1, 7.0)), alone=False),
        table("B", of_trials((1, 0.6)), alone=False),
        table("C", of_trials((1, 0.6)), alone=False),
    ]
    found = shown("study", FRONT, frames)
    assert found["x"] == [5.0, 7.0]
    assert found["all trials"] == [None, 0.6]


def test_a_row_of_the_table_is_a_trial_with_its_objectives_and_parameters() -> None:
    answer: Answer = [
        ({"trial": trial, "column": column}, value)
        for trial, values in (
            ("9", {"on the front": 1, "fidelity": 27, "objective error": 0.1, "lr": 0.01}),
            ("10", {"on the front": 0, "fidelity": 3, "objective error": 0.3, "lr": 0.02}),
            ("11", {"lr": 0.03}),
        )
        for column, value in values.items()
    ]
    found = shown("study", "Trials by parameters", [table("A", answer, alone=True)])
    assert found == {
        "trial": [11, 10, 9],
        "on the front": [None, 0, 1],
        "fidelity": [None, 3, 27],
        "objective error": [None, 0.3, 0.1],
        "lr": [0.03, 0.02, 0.01],
    }


def test_learning_curves_have_a_column_for_each_trial_over_its_steps() -> None:
    """Scrapes catch other steps of each; a trial that starts later starts at its own step."""
    times = [1, 2, 3, 2, 3]
    steps = [1, 2, 4, 1, 4]
    values = [0.9, 0.5, 0.3, 0.8, 0.2]
    trials = ["0", "0", "0", "1", "1"]
    frames = [
        table(letter, [({"trial": t}, v) for t, v in zip(trials, of, strict=True)],
              alone=False, times=times)
        for letter, of in (("A", steps), ("B", values))
    ]  # fmt: skip
    found = shown("study", "$metric by step", frames)
    assert found == {"step": [1, 2, 4], "0": [0.9, 0.5, 0.3], "1": [0.8, None, 0.2]}


def test_rungs_are_in_their_order() -> None:
    answer: Answer = [
        ({"rung": "1", "fidelity": "9"}, 4),
        ({"rung": "2", "fidelity": "27"}, 1),
        ({"rung": "0", "fidelity": "3"}, 12),
    ]
    found = shown("study", "Rungs", [table("A", answer, alone=True)])
    assert found == {"fidelity": ["3", "9", "27"], "trials": [12, 4, 1]}


def test_a_choice_is_found_by_its_index() -> None:
    answer: Answer = [({"parameter": "activation", "index": "1", "choice": "gelu"}, 1)]
    found = shown("study", "Choices", [table("A", answer, alone=True)])
    assert found == {"parameter": ["activation"], "index": ["1"], "choice": ["gelu"]}


@pytest.mark.parametrize("missing", ["", "G"])
def test_studies_have_a_row_each_whatever_they_lack(missing: str) -> None:
    """A study without a front yet has no hypervolume; both have the name of one namespace."""
    studies = [{"namespace": "team", "study": "a"}, {"namespace": "team", "study": "b"}]
    frames = [
        table("A", [({**s, "phase": "Optimizing"}, 1) for s in studies], alone=False),
        *(
            table(
                letter,
                [(s, number) for s in studies[letter == missing :]],
                alone=False,
                times=[number] * len(studies[letter == missing :]),  # one asked after the other
            )
            for number, letter in enumerate("BCDEFGH")
        ),
    ]
    found = shown("studies", "Studies", frames)
    assert list(found) == [
        "namespace", "study", "Phase", "Budget used", "Completed", "Failed", "Runs", "Front",
        "Hypervolume", "Age",
    ]  # fmt: skip
    rows = dict(zip(found["study"], zip(*found.values(), strict=True), strict=True))
    assert rows["b"] == ("team", "b", "Optimizing", 0, 1, 2, 3, 4, 5, 6)
    assert rows["a"] == ("team", "a", "Optimizing", 0, 1, 2, 3, 4, None if missing else 5, 6)


def test_conditions_are_named_in_full() -> None:
    row = {"namespace": "team", "study": "a", "condition": "Degraded", "reason": "OptimizerFailed"}
    found = shown("studies", "Conditions to look at", [table("A", [(row, 1)], alone=True)])
    assert found == {name: [value] for name, value in row.items()}
