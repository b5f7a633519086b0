"""The self-test of an installation, against an API server that is not always there."""

from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from urllib3.exceptions import ProtocolError

from primo_operator import selftest
from primo_operator.selftest import SelfTestError, run, study

LOST = ProtocolError("Connection broken")
MANIFEST = study("self-test", "sidecar:1")


def refused(status: int) -> client.ApiException:
    return client.ApiException(status=status, reason="so")


class Api:
    """Completes a study at the second look; raises what a test puts before or after a call."""

    def __init__(self, faults: dict[str, list[Exception]], *, after: bool = False) -> None:
        self.faults, self.after = faults, after
        self.study: dict[str, Any] | None = None
        self.looks = 0

    def _call(self, verb: str, does: Callable[[], Any]) -> Any:
        fault = self.faults[verb].pop(0) if self.faults.get(verb) else None
        if fault and not self.after:
            raise fault
        result = does()
        if fault:
            raise fault
        return result

    def get_namespaced_custom_object(self, *args: Any, **_: Any) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            if self.study is None:
                raise refused(404)
            self.looks += 1
            phase = "Completed" if self.looks > 1 else "InitialDesign"
            return {**self.study, "status": {"phase": phase, "trials": {"failed": 0}}}

        return self._call("get", look)

    def create_namespaced_custom_object(self, *args: Any, **_: Any) -> None:
        def create() -> None:
            if self.study is not None:
                raise refused(409)
            self.study = args[-1]

        self._call("create", create)

    def delete_namespaced_custom_object(self, *args: Any, **_: Any) -> None:
        def delete() -> None:
            if self.study is None:
                raise refused(404)
            self.study = None

        self._call("delete", delete)


def test_its_trials_go_where_the_operator_may_go_and_run_as_whom_the_cluster_says() -> None:
    placed = {"tolerations": [{"operator": "Exists"}], "imagePullSecrets": [{"name": "pull"}]}
    pod = study("self-test", "i", placed, user=0)["spec"]["trialTemplate"]["spec"]["template"]
    assert pod["spec"].items() >= placed.items()
    assert "runAsUser" not in pod["spec"]["securityContext"]
    usual = MANIFEST["spec"]["trialTemplate"]["spec"]["template"]["spec"]
    assert usual["securityContext"]["runAsUser"] == 65532


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "POLL_S", 0.0)


@pytest.mark.parametrize("verb", ["get", "create", "delete"])
@pytest.mark.parametrize("fault", [LOST, refused(429), refused(503)])
@pytest.mark.parametrize("after", [False, True], ids=["not done", "done, and no answer came"])
def test_a_call_without_an_answer_is_made_again(verb: str, fault: Exception, after: bool) -> None:
    api = Api({verb: [fault, fault]}, after=after)
    run(api, "team", MANIFEST, 60.0, lambda _: None)
    assert not api.faults[verb]
    assert api.study is None, "removed when it has passed"


@pytest.mark.parametrize(("verb", "status"), [("get", 403), ("create", 409), ("delete", 403)])
def test_a_refusal_is_final(verb: str, status: int) -> None:
    api = Api({verb: [refused(status), refused(status)]})
    with pytest.raises(client.ApiException):
        run(api, "team", MANIFEST, 60.0, lambda _: None)
    assert len(api.faults[verb]) == 1


def test_an_api_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "AWAY_S", 0.01)
    with pytest.raises(SelfTestError, match=r"no answer from the API server .*Connection broken"):
        run(Api({"get": [LOST] * 1_000_000}), "team", MANIFEST, 60.0, lambda _: None)
