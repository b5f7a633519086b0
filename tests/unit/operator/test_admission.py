"""What admission makes of a Job: what may cost a result is named, and nothing else is."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from primo_operator import manifests
from primo_operator.admission import changes, goes_too_early
from primo_operator.settings import Settings
from support.builders import study, trial

ASKED = manifests.job(study(), trial(), "uid", Settings())


def _pod(job: Any) -> Any:
    return job["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda j: j["spec"].update(suspend=True), [], id="a queue"),
        pytest.param(
            lambda j: j["spec"].update(podReplacementPolicy="Failed", completionMode="NonIndexed"),
            [],
            id="defaults",
        ),
        pytest.param(lambda j: j["spec"].update(ttlSecondsAfterFinished=3600), [], id="an hour"),
        pytest.param(
            lambda j: _pod(j)["containers"].append({"name": "proxy"}), [], id="a mesh's proxy"
        ),
        pytest.param(
            lambda j: _pod(j)["initContainers"][0].update(image="mirror.example/sidecar"),
            [],
            id="another registry",
        ),
        pytest.param(
            lambda j: j["spec"].update(ttlSecondsAfterFinished=0),
            ["spec.ttlSecondsAfterFinished is 0"],
            id="gone at once",
        ),
        pytest.param(
            lambda j: j["spec"].update(backoffLimit=6, podFailurePolicy={"rules": []}),
            ["spec.backoffLimit is 6, not 0", "spec.podFailurePolicy is set"],
            id="retries of its own",
        ),
        pytest.param(
            lambda j: _pod(j).update(restartPolicy="OnFailure"),
            ["the pod's spec.restartPolicy is 'OnFailure', not 'Never'"],
            id="restarts",
        ),
        pytest.param(
            lambda j: _pod(j)["initContainers"][0].update(terminationMessagePath="/dev/null"),
            [
                "primo-report.terminationMessagePath is '/dev/null', not '/dev/termination-log'",
            ],
            id="no message",
        ),
        pytest.param(
            lambda j: _pod(j)["containers"][0].update(env=[]),
            ["container train has no PRIMO_PARAMS, PRIMO_REPORT_FILE"],
            id="no environment",
        ),
    ],
)
def test_what_may_cost_a_result_is_named(change: Callable[[Any], None], words: list[str]) -> None:
    made = copy.deepcopy(ASKED)
    change(made)
    assert changes(ASKED, made) == words
    assert goes_too_early(made) == any("ttl" in word for word in words)


def test_a_sidecar_that_was_taken_out_is_missed() -> None:
    made = copy.deepcopy(ASKED)
    del _pod(made)["initContainers"]
    assert [line.partition(" ")[0] for line in changes(ASKED, made)] == [
        "primo-report.command",
        "primo-report.restartPolicy",
        "primo-report.terminationMessagePath",
    ]
