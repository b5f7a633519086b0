"""The chart's values: what is refused and in which words, and that all of them are documented."""

import importlib.util
import json
import subprocess
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import yaml

from support.chart import CHART, RENDERINGS, ROOT, Helm, Values

BAD: dict[str, tuple[Values, str]] = {
    "a value that is none": ({"replicaCount": 2}, "replicaCount"),
    "a third operator": ({"replicas": 3}, "replicas"),
    "a typo below another": ({"image": {"tagg": "1"}}, "tagg"),
    "a registry by its URL": (
        {"imageRegistry": "https://registry.example/team"},
        'imageRegistry: "https://registry.example/team" is a URL, expected host:port/path alone',
    ),
    "an empty image": ({"image": {"repository": ""}}, "image.repository"),
    "an image with a tag": ({"image": {"repository": "a b"}}, "image.repository"),
    "a digest that is cut": ({"image": {"digest": "sha256:12"}}, "image.digest"),
    "a tag that is a number": ({"sidecar": {"image": {"tag": 1.2}}}, "sidecar.image.tag"),
    "a pull policy": ({"image": {"pullPolicy": "always"}}, "image.pullPolicy"),
    "secrets by name alone": ({"imagePullSecrets": ["pull"]}, "imagePullSecrets.0"),
    "a port too high": ({"sidecar": {"metricsPort": 70000}}, "sidecar.metricsPort"),
    "a namespace in place of a list": ({"watch": {"namespaces": "team"}}, "watch.namespaces"),
    "a namespace that cannot be": ({"watch": {"namespaces": ["Team"]}}, "watch.namespaces.0"),
    "a namespace twice": ({"watch": {"namespaces": ["a", "a"]}}, "watch.namespaces"),
    "a word for a switch": ({"crds": {"install": "yes"}}, "crds.install"),
    "no workers": ({"settings": {"workers": 0}}, "settings.workers"),
    "half a worker": ({"settings": {"workers": 1.5}}, "settings.workers"),
    "no time": ({"settings": {"resyncSeconds": 0}}, "settings.resyncSeconds"),
    "memory with a unit": ({"settings": {"suggestionMemoryMiB": "1Gi"}}, "suggestionMemoryMiB"),
    "time with a unit": ({"settings": {"resyncSeconds": "5m"}}, "settings.resyncSeconds"),
    "a setting by its variable": (
        {"extraEnv": [{"name": "PRIMO_WORKERS", "value": "9"}]},
        "extraEnv: PRIMO_WORKERS is the chart's, as all names that begin with PRIMO_",
    ),
    "an environment value that is none": (
        {"extraEnv": [{"name": "A", "value": 1}]},
        "extraEnv.0.value",
    ),
    "memory in a wrong unit": ({"resources": {"limits": {"memory": "4GB"}}}, "resources.limits"),
    "a privileged port": ({"probes": {"port": 80}}, "probes.port"),
    "no API server": ({"networkPolicy": {"apiServerPorts": []}}, "networkPolicy.apiServerPorts"),
    "a URL that is none": ({"prometheus": {"url": 9090}}, "prometheus.url"),
    "namespaces as one word": ({"prometheus": {"namespaces": "*"}}, "prometheus.namespaces"),
    "a pattern of namespaces": (
        {"prometheus": {"namespaces": ["team-*"]}},
        "prometheus.namespaces.0",
    ),
    "namespaces without a Prometheus": (
        {"prometheus": {"namespaces": ["a", "b"]}},
        "prometheus.namespaces: a, b may ask nobody, expected a prometheus.url, which is empty",
    ),
    "two authorities": (
        {"prometheus": {"url": "http://p:9090", "ca": {"configMap": "a", "secret": "b"}}},
        'prometheus.ca.secret: "b" is beside prometheus.ca.configMap, expected one of them',
    ),
    "an authority for nothing": (
        {"prometheus": {"ca": {"configMap": "a"}}},
        "prometheus.ca: is for nothing, expected a prometheus.url, which is empty",
    ),
    "a token for nothing": (
        {"prometheus": {"token": {"secret": "a"}}},
        "prometheus.token: is for nothing, expected a prometheus.url, which is empty",
    ),
    "a tag in a repository": ({"image": {"repository": "reg.example/a/b:1.2"}}, "image.repository"),
    "a home of its own": (
        {"extraEnv": [{"name": "HOME", "value": "/home"}]},
        "extraEnv: HOME is the chart's",
    ),
    "two points in a quantity": (
        {"resources": {"limits": {"memory": "1..2"}}},
        "resources.limits.memory",
    ),
    "no key": ({"prometheus": {"token": {"key": ""}}}, "prometheus.token.key"),
    "a token itself": ({"prometheus": {"token": "abc"}}, "prometheus.token"),
    "no time for a query": ({"prometheus": {"timeoutSeconds": 0}}, "prometheus.timeoutSeconds"),
    "less than no patience": (
        {"prometheus": {"patienceSeconds": -1}},
        "prometheus.patienceSeconds",
    ),
    "a privileged port for metrics": ({"metrics": {"port": 443}}, "metrics.port"),
    "the port of the probes for metrics": (
        {"metrics": {"enabled": True, "port": 8080}},
        "metrics.port: 8080 is the port of the probes (probes.port), expected another",
    ),
    "a monitor of what is not served": (
        {"metrics": {"serviceMonitor": {"enabled": True}}},
        "metrics.serviceMonitor.enabled: true needs metrics.enabled, which is false",
    ),
    "a monitor of a port without a name": (
        {"metrics": {"podMonitor": {"enabled": True}}, "sidecar": {"metricsPort": 0}},
        "metrics.podMonitor.enabled: true needs a sidecar.metricsPort, which is 0",
    ),
    "dashboards of what is not served": (
        {"dashboards": {"enabled": True}},
        "dashboards.enabled: true needs metrics.enabled, which is false",
    ),
    "a label for Grafana that is a number": (
        {"dashboards": {"labels": {"grafana_dashboard": 1}}},
        "dashboards.labels.grafana_dashboard",
    ),
    "alerts of what is not served": (
        {"metrics": {"rules": {"enabled": True}}},
        "metrics.rules.enabled: true needs metrics.enabled, which is false",
    ),
    "an alert's label with a dash": (
        {"metrics": {"rules": {"alertLabels": {"my-team": "ml"}}}},
        "metrics.rules.alertLabels",
    ),
    "one severity for all alerts": (
        {"metrics": {"rules": {"alertLabels": {"severity": "page"}}}},
        "metrics.rules.alertLabels.severity: is the alerts' own, expected another label",
    ),
    "one namespace for all alerts": (
        {"metrics": {"rules": {"alertLabels": {"namespace": "ml"}}}},
        "metrics.rules.alertLabels.namespace: is the alerts' own, expected another label",
    ),
    "a runbook that is no URL": (
        {"metrics": {"rules": {"runbookUrl": "docs"}}},
        "metrics.rules.runbookUrl",
    ),
    "an interval without a unit": (
        {"metrics": {"podMonitor": {"interval": "30"}}},
        "metrics.podMonitor.interval",
    ),
    "an interval in words": (
        {"metrics": {"serviceMonitor": {"interval": "1 minute"}}},
        "metrics.serviceMonitor.interval",
    ),
    "half a trial": ({"metrics": {"trials": 0.5}}, "metrics.trials"),
    "less than no parameters": ({"metrics": {"parameters": -1}}, "metrics.parameters"),
    "a time with a unit": ({"metrics": {"keepSeconds": "1d"}}, "metrics.keepSeconds"),
    "a peer that is none": (
        {"networkPolicy": {"metricsFrom": [{"namespace": "monitoring"}]}},
        "networkPolicy.metricsFrom.0",
    ),
    "a label that is a number": ({"commonLabels": {"cost": 1}}, "commonLabels.cost"),
    "a toleration": ({"tolerations": [{"operator": "Is"}]}, "tolerations.0.operator"),
    "an affinity": ({"affinity": {"nodes": {}}}, "affinity"),
}


BAD_URLS = {
    "no scheme": "prometheus:9090",
    "another scheme": "ftp://h.example",
    "a password": "https://u:p@h.example",
    "a query": "https://h.example/?a=b",
    "a port that is none": "https://h.example:port",
    "a port that is too high": "https://h.example:65536/path",
    "another variable": "https://h.example/$(PRIMO_WORKERS)",
    "what the operator adds": "https://h.example/api/v1/query",
    "two lines": "https://h.example\nX: y",
}


@pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS)
def test_a_bad_url_is_refused_in_words(one_helm: Helm, url: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        one_helm.template({"prometheus": {"url": url}})
    assert f"prometheus.url: {json.dumps(url)} is not a base URL" in refused.value.stderr


@pytest.mark.parametrize(("values", "field"), BAD.values(), ids=BAD)
def test_a_bad_value_is_refused_by_name(any_helm: Helm, values: Values, field: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        any_helm.template(values)
    words = refused.value.stderr
    assert field in words or "/" + field.replace(".", "/") in words, words


def test_none_of_the_good_values_is_refused(any_helm: Helm) -> None:
    any_helm.template(RENDERINGS["everything"])


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"repository": "reg.example:5000/team/operator"}},
        {"image": {"repository": "operator"}},
        {"resources": {"limits": {"memory": "1.5Gi", "cpu": ".5"}}},
        {"resources": {"limits": {"memory": "1e9", "cpu": 2}}},
        {"prometheus": {"url": "http://[::1]:65535/path"}},
    ],
    ids=["a registry's port", "a bare name", "fractions", "an exponent", "the last port"],
)
def test_what_looks_odd_and_is_right_is_taken(one_helm: Helm, values: Values) -> None:
    one_helm.template(values)


def test_a_chart_may_have_this_one_as_a_part(one_helm: Helm) -> None:
    """Helm gives `global` to subcharts."""
    one_helm.template({"global": {"anything": 1}})


# --- documentation


def _keys(values: Any, prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _properties(schema: Any, prefix: str = "") -> Iterator[str]:
    for key, child in schema.get("properties", {}).items():
        yield f"{prefix}{key}"
        yield from _properties(child, f"{prefix}{key}.")


def test_the_schema_knows_every_value_and_no_other() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    free = ("podSecurityContext.", "securityContext.", "resources.")  # as Kubernetes has them
    given = {key for key in _keys(values) if not key.startswith(free)}
    known = {key for key in _properties(schema) if not key.startswith(free)}
    # Maps whose keys are not listed in values.yaml.
    optional = {key for key in known if key.startswith("affinity.")} | {"global"}
    assert known - optional == given


def _table_module() -> ModuleType:
    found = importlib.util.spec_from_file_location(
        "values_table", ROOT / "helm" / "values_table.py"
    )
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_readme_has_the_table_of_the_values() -> None:
    """`make chart` writes it."""
    table = _table_module()
    readme = (CHART / "README.md").read_text()
    assert readme == table.with_table(readme, table.table((CHART / "values.yaml").read_text()))


def test_a_value_without_a_comment_is_found() -> None:
    table = _table_module()
    with pytest.raises(table.UndocumentedError, match=r"values\.yaml: a\.b has no comment"):
        table.values("a:\n  # Said.\n  c: 1\n  b: 2\n")
