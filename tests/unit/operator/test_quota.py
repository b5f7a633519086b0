"""A quota that is full has room later; one that is too small never has."""

import pytest

from primo_operator.quota import has_room_later

POD = 'pods "digits-0" is forbidden: exceeded quota: team, requested: '


@pytest.mark.parametrize(
    ("message", "later"),
    [
        pytest.param(POD + "pods=1, used: pods=2, limited: pods=2", True, id="full"),
        pytest.param(
            POD + "limits.memory=2Gi,pods=1, used: limits.memory=1Gi,pods=2, "
            "limited: limits.memory=2048Mi,pods=2",
            True,
            id="as much as there is, in another unit",
        ),
        pytest.param(
            POD + "requests.nvidia.com/gpu=8, used: requests.nvidia.com/gpu=0, "
            "limited: requests.nvidia.com/gpu=4",
            False,
            id="more than there is",
        ),
        pytest.param(
            POD + "pods=1,requests.cpu=1500m, used: pods=2,requests.cpu=0, "
            "limited: pods=2,requests.cpu=1",
            False,
            id="one of two is too much",
        ),
        pytest.param("Error creating: " + POD + "a=x, used: a=y, limited: a=z", True, id="words"),
        pytest.param("exceeded quota: team", True, id="no numbers"),
        pytest.param(
            'pods "p" is forbidden: maximum memory usage per Container is 48Mi', False, id="a limit"
        ),
    ],
)
def test_whether_a_quota_would_have_room(message: str, later: bool) -> None:
    assert has_room_later(message) == later
