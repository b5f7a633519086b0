"""The helms at hand. What renders alike needs one of them; what helm does itself needs both."""

from functools import cache

import pytest

from support import helm
from support.chart import RENDERINGS, VERSIONS, Helm, Object


def found(name: str) -> Helm:
    program = helm.binary(name)
    if program is None:
        pytest.skip(f"{name} is not in {helm.BIN}: `python tests/support/helm.py` could not get it")
    return Helm(program)


@pytest.fixture(scope="session", params=sorted(helm.PACKAGES))
def any_helm(request: pytest.FixtureRequest) -> Helm:
    """Each in turn."""
    return found(request.param)


@pytest.fixture(scope="session")
def one_helm() -> Helm:
    return found("helm4")


@cache
def rendered(program: Helm, name: str, version: str) -> list[Object]:
    return program.template(RENDERINGS[name], "--kube-version", f"{version}.0")


@pytest.fixture(params=RENDERINGS, scope="session")
def rendering(request: pytest.FixtureRequest, one_helm: Helm) -> list[Object]:
    """The objects of each set of values in turn."""
    return rendered(one_helm, request.param, VERSIONS[-1])


@pytest.fixture(params=RENDERINGS, scope="session")
def renderings(request: pytest.FixtureRequest, one_helm: Helm) -> dict[str, list[Object]]:
    """The same, by version of Kubernetes."""
    return {version: rendered(one_helm, request.param, version) for version in VERSIONS}
