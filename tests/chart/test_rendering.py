"""What the chart renders to, for every set of values in `support/chart.py`."""

import copy
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from primo_operator.crds import KINDS, render
from primo_operator.manifests import job, probe_pod
from primo_operator.selftest import study as self_test_study
from primo_operator.settings import Settings
from primo_study.queries import Gap
from primo_study.spec import parse
from primo_study.study import TrialPhase
from support import builders
from support.chart import (
    CHART,
    FEATURES,
    MODES,
    NAMESPACE,
    RELEASE,
    RENDERINGS,
    ROOT,
    VERSIONS,
    Helm,
    Object,
    Values,
    definitions_of_ours,
    merged,
    of_kind,
    pod_specs,
    problems,
)
from support.pod_security import RULES, broken
from support.prometheus import PROMTOOL
from support.rules import groups

MONITORING = "monitoring.coreos.com/v1"  # prometheus-operator's: Kubernetes has no schema of it
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")


def test_there_are_renderings_enough() -> None:
    assert len(RENDERINGS) >= 40


def test_it_lints(any_helm: Helm) -> None:
    assert "0 chart(s) failed" in any_helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object(renderings: dict[str, list[Object]], version: str) -> None:
    known = [each for each in renderings[version] if each["apiVersion"] != MONITORING]
    assert [p for each in known for p in problems(json.dumps(each), version)] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_find_a_field_that_is_none(one_helm: Helm, version: str) -> None:
    (deployment,) = of_kind(one_helm.template(), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    assert "imagee" in "".join(problems(json.dumps(deployment), version))


def test_the_namespace_of_the_plain_manifests_is_one() -> None:
    """`make package` puts it before what the chart renders to."""
    namespace = yaml.safe_load((ROOT / "helm" / "namespace.yaml").read_text())
    assert [p for version in VERSIONS for p in problems(json.dumps(namespace), version)] == []
    makefile = (ROOT / "Makefile").read_text()
    assert f"--namespace {namespace['metadata']['name']}" in makefile


def test_every_pod_meets_pod_security_restricted(rendering: list[Object]) -> None:
    pods = pod_specs(rendering)
    assert [broken(spec) for spec in pods] == [[] for _ in pods]
    assert len(pods) == 2  # the operator's and the self-test's


def test_every_pod_has_a_root_file_system_that_is_read_only(rendering: list[Object]) -> None:
    for spec in pod_specs(rendering):
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_trials_of_the_self_test_meet_pod_security_restricted() -> None:
    manifest = self_test_study("self-test", "primo-sidecar:0.1.0")
    study = builders.study(spec=parse(manifest["spec"]))
    made = job(study, builders.trial(0, TrialPhase.QUEUED), "uid", Settings())
    assert broken(probe_pod(made)["spec"]) == []


VIOLATIONS: dict[str, Callable[[Any], Any]] = {
    "no host namespaces": lambda s: s.update(hostPID=True),
    "no host processes": lambda s: s["securityContext"].update(
        windowsOptions={"hostProcess": True}
    ),
    "not privileged": lambda s: s["containers"][0]["securityContext"].update(privileged=True),
    "all capabilities dropped": lambda s: s["containers"][0]["securityContext"].pop("capabilities"),
    "none added but NET_BIND_SERVICE": lambda s: s["containers"][0]["securityContext"][
        "capabilities"
    ].update(add=["SYS_ADMIN"]),
    "volumes of allowed kinds": lambda s: s["volumes"].append(
        {"name": "host", "hostPath": {"path": "/"}}
    ),
    "no host ports": lambda s: s["containers"][0]["ports"][0].update(hostPort=1),
    "no hosts in probes and hooks": lambda s: s["containers"][0]["livenessProbe"]["httpGet"].update(
        host="10.0.0.1"
    ),
    "AppArmor confined": lambda s: s["securityContext"].update(
        appArmorProfile={"type": "Unconfined"}
    ),
    "usual SELinux": lambda s: s["securityContext"].update(seLinuxOptions={"user": "root"}),
    "default /proc": lambda s: s["containers"][0]["securityContext"].update(procMount="Unmasked"),
    "safe sysctls": lambda s: s["securityContext"].update(
        sysctls=[{"name": "kernel.msgmax", "value": "1"}]
    ),
    "no privilege escalation": lambda s: s["containers"][0]["securityContext"].pop(
        "allowPrivilegeEscalation"
    ),
    "not root": lambda s: s["securityContext"].pop("runAsNonRoot"),
    "no user 0": lambda s: s["securityContext"].update(runAsUser=0),
    "seccomp": lambda s: s["securityContext"].pop("seccompProfile"),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_of_pod_security_find_what_breaks_them(one_helm: Helm, rule: str) -> None:
    (deployment,) = of_kind(one_helm.template(), "Deployment")
    spec = copy.deepcopy(deployment["spec"]["template"]["spec"])
    VIOLATIONS[rule](spec)
    assert broken(spec) == [rule]


def test_every_object_says_what_it_belongs_to(rendering: list[Object]) -> None:
    for each in rendering:
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert all(re.fullmatch(r"[\w.-]{1,63}", value) for value in labels.values())
        namespaced = each["kind"] not in CLUSTER_WIDE
        assert ("namespace" in each["metadata"]) == namespaced


def test_no_two_objects_have_one_name(rendering: list[Object]) -> None:
    keys = [(e["kind"], e["metadata"].get("namespace"), e["metadata"]["name"]) for e in rendering]
    assert len(set(keys)) == len(keys)


def test_the_selector_is_that_of_the_pods_and_of_the_policy(rendering: list[Object]) -> None:
    (deployment,) = of_kind(rendering, "Deployment")
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for policy in of_kind(rendering, "NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"] == selector
    for pod in of_kind(rendering, "Pod"):
        assert not selector.items() <= pod["metadata"]["labels"].items()


@pytest.mark.parametrize("values", FEATURES.values(), ids=FEATURES)
def test_no_value_changes_the_selector_but_a_name(one_helm: Helm, values: dict[str, Any]) -> None:
    """A Deployment's selector cannot be changed: an upgrade with new values must not try."""
    if "nameOverride" in values:
        pytest.skip("the name is part of it")
    before, after = (of_kind(one_helm.template(v), "Deployment")[0] for v in ({}, values))
    assert before["spec"]["selector"] == after["spec"]["selector"]


def test_helm_3_and_4_render_alike(any_helm: Helm, one_helm: Helm) -> None:
    values = RENDERINGS["everything"]
    assert any_helm.template(values) == one_helm.template(values)


@pytest.mark.parametrize("mode", MODES)
def test_an_upgrade_with_the_same_values_changes_nothing(one_helm: Helm, mode: str) -> None:
    installed = one_helm.template(MODES[mode])
    assert one_helm.template(MODES[mode], "--is-upgrade") == installed


@pytest.mark.parametrize("version", ["1.28.9", "1.19.0"])
def test_a_kubernetes_without_native_sidecars_is_refused(one_helm: Helm, version: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        one_helm.template({}, "--kube-version", version)
    assert f"is incompatible with Kubernetes v{version}" in refused.value.stderr


# --- definitions


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.plural)
def test_the_charts_definitions_are_those_of_crds(kind: Any) -> None:
    """`make crds` writes both."""
    assert (CHART / "files" / "crds" / f"{kind.plural}.yaml").read_text() == render(kind)


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_lost_of_the_definitions(one_helm: Helm, version: str) -> None:
    """But the selectable fields, which Kubernetes 1.29 does not know."""
    objects = one_helm.template({}, "--kube-version", f"{version}.0")
    rendered = of_kind(objects, "CustomResourceDefinition")
    specs = {each["metadata"]["name"]: each["spec"] for each in rendered}
    expected = {name: each["spec"] for name, each in definitions_of_ours().items()}
    if version == "1.29":
        for spec in expected.values():
            del spec["versions"][0]["selectableFields"]
    assert specs == expected


@pytest.mark.parametrize("keep", [True, False])
def test_definitions_outlive_the_release_unless_told_otherwise(one_helm: Helm, keep: bool) -> None:
    for each in of_kind(
        one_helm.template({"crds": {"keep": keep}, "commonAnnotations": {"a": "b"}}),
        "CustomResourceDefinition",
    ):
        annotations = each["metadata"]["annotations"]
        assert (annotations.get("helm.sh/resource-policy") == "keep") == keep


# --- the operator's pod


def container(one_helm: Helm, values: dict[str, Any]) -> Object:
    (deployment,) = of_kind(one_helm.template(values), "Deployment")
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def environment(one_helm: Helm, values: dict[str, Any]) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in container(one_helm, values)["env"]}


def test_the_old_operator_ends_before_the_new_one_starts(rendering: list[Object]) -> None:
    (deployment,) = of_kind(rendering, "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(("replicas", "budgets"), [(0, 0), (1, 0), (2, 1)])
def test_drains_are_held_up_only_where_another_operator_can_take_over(
    one_helm: Helm, replicas: int, budgets: int
) -> None:
    objects = one_helm.template({"replicas": replicas})
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["replicas"] == replicas
    found = of_kind(objects, "PodDisruptionBudget")
    assert len(found) == budgets
    for budget in found:
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_the_settings_are_the_operators_own(one_helm: Helm) -> None:
    """The chart's defaults are those of the code, and its values reach the code."""
    given = Settings.from_environment(environment(one_helm, {}))
    assert given == replace(Settings(), lease_namespace=NAMESPACE)
    found = Settings.from_environment(environment(one_helm, RENDERINGS["everything"]))
    assert (found.workers, found.resync_s, found.status_interval_s) == (2, 60.5, 0.5)
    assert (found.request_timeout_s, found.suggestion_timeout_s) == (10, 30)
    assert found.suggestion_memory_mib == 0
    assert (found.sidecar_metrics_port, found.sidecar_user) == (9401, 0)
    assert found.sidecar_metrics_address == found.operator_metrics_address == "::"
    assert (found.metrics_trials, found.metrics_parameters) == (1_000_000, 0)
    assert (found.operator_metrics_port, found.metrics_keep_s) == (9500, 2_592_000)
    assert found.sidecar_image == "localhost/sidecar@sha256:" + "1" * 64


def test_a_million_is_written_as_a_whole_number(one_helm: Helm) -> None:
    """Numbers of a values file are floating ones to Helm, and the operator would not read 1e+06."""
    many = 1_000_000
    values = {
        "settings": {"workers": many, "suggestionMemoryMiB": many},
        "metrics": {"trials": many, "parameters": many},
        "selfTest": {"timeoutSeconds": many},
    }
    text = json.dumps(one_helm.template(values))
    assert (text.count("1000000"), text.count("1e+06")) == (5, 0)


# Of no use in a cluster, or better not changed: a Lease's times go together.
UNSET = {"lease_identity", "lease_duration_s", "lease_renew_s", "lease_retry_s"}


def test_every_setting_can_be_set(one_helm: Helm) -> None:
    """As extraEnv refuses PRIMO_ variables, a setting without a value cannot."""
    set_ = environment(one_helm, RENDERINGS["everything"])
    unset = {field.name for field in fields(Settings) if f"PRIMO_{field.name.upper()}" not in set_}
    assert unset == UNSET


def test_no_variable_is_set_that_the_operator_does_not_read(one_helm: Helm) -> None:
    read = {f"PRIMO_{field.name.upper()}" for field in fields(Settings)}
    set_ = environment(one_helm, RENDERINGS["everything"])
    assert {name for name in set_ if name.startswith("PRIMO_")} <= read


@pytest.mark.parametrize(
    ("registry", "image", "expected"),
    [
        pytest.param("", {}, "primo-operator:0.1.0", id="the chart's own version"),
        pytest.param("r.example", {"tag": "2"}, "r.example/primo-operator:2", id="a registry"),
        pytest.param("r.example/", {"repository": "a/b"}, "r.example/a/b:0.1.0", id="a path"),
        pytest.param(
            "r.example", {"repository": "q.example/a"}, "q.example/a:0.1.0", id="its own registry"
        ),
        pytest.param("r.example", {"repository": "h:5000/a"}, "h:5000/a:0.1.0", id="with a port"),
        pytest.param(
            "", {"tag": "2", "digest": "sha256:" + "a" * 64},
            "primo-operator@sha256:" + "a" * 64, id="a digest goes first",
        ),
    ],
)  # fmt: skip
def test_images(one_helm: Helm, registry: str, image: dict[str, str], expected: str) -> None:
    assert container(one_helm, {"imageRegistry": registry, "image": image})["image"] == expected


def test_what_is_watched_is_what_the_command_line_takes(one_helm: Helm) -> None:
    assert "--all-namespaces" in container(one_helm, {})["args"]
    args = container(one_helm, MODES["two namespaces"])["args"]
    assert {"--namespace=team-a", "--namespace=team-b"} <= set(args)
    assert "--all-namespaces" not in args


def test_probes_ask_where_the_operator_serves(rendering: list[Object]) -> None:
    (deployment,) = of_kind(rendering, "Deployment")
    (operator,) = deployment["spec"]["template"]["spec"]["containers"]
    (port,) = (port for port in operator["ports"] if port["name"] == "health")
    (given,) = (arg for arg in operator["args"] if arg.startswith("--liveness="))
    url = urlsplit(given.removeprefix("--liveness="))
    variables = {each["name"]: each.get("value") for each in operator["env"]}
    assert (url.scheme, url.port, url.path) == ("http", port["containerPort"], "/healthz")
    assert url.hostname == variables["PRIMO_OPERATOR_METRICS_ADDRESS"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = "/healthz?ready" if probe == "readinessProbe" else "/healthz"
        assert operator[probe]["httpGet"] == {"path": path, "port": port["name"]}


# --- objectives from Prometheus


TLS = FEATURES["objectives from a Prometheus with TLS"]
FILES = "/etc/primo/prometheus"


def test_prometheus_is_asked_by_the_namespaces_that_the_values_name(one_helm: Helm) -> None:
    found = Settings.from_environment(environment(one_helm, TLS))
    assert found.prometheus_url == TLS["prometheus"]["url"]
    assert [found.access(n).refused for n in ("team-a", "team-b")] == [None, None]
    assert found.access("team-c").refused == Gap.NOT_ALLOWED
    assert found.prometheus_timeout_s == 2.5
    assert (found.prometheus_settle_s, found.prometheus_patience_s) == (0, 2_000_000)
    names = [variable["name"] for variable in container(one_helm, TLS)["env"]]
    assert "namespace" not in names  # else the kubelet would put its value in the URL
    everybody = environment(one_helm, FEATURES["objectives from Prometheus"])
    assert Settings.from_environment(everybody).access("any").refused is None


@pytest.mark.parametrize(
    ("values", "files"),
    [
        pytest.param({}, {}, id="nobody is asked"),
        pytest.param({"url": "https://h.example"}, {}, id="the system's authorities, no token"),
        pytest.param(
            TLS["prometheus"],
            {"ca": ("configMap", "authorities", "service-ca.crt"),
             "token": ("secret", "reader", "bearer")},
            id="both",
        ),
        pytest.param(
            {"url": "https://h.example", "ca": {"secret": "tls"}},
            {"ca": ("secret", "tls", "ca.crt")},
            id="an authority in a Secret",
        ),
        pytest.param(
            {"url": "https://h.example", "token": {"secret": "reader"}},
            {"token": ("secret", "reader", "token")},
            id="a token",
        ),
    ],
)  # fmt: skip
def test_authority_and_token_are_where_the_operator_reads_them(
    one_helm: Helm, values: Values, files: dict[str, tuple[str, str, str]]
) -> None:
    (deployment,) = of_kind(one_helm.template({"prometheus": values}), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (operator,) = pod["containers"]
    mounted = [m for m in operator["volumeMounts"] if m["name"] == "prometheus"]
    assert mounted == [{"name": "prometheus", "mountPath": FILES, "readOnly": True}] * bool(files)
    found = {}
    for volume in pod["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            ((kind, what),) = source.items()
            (item,) = what["items"]
            found[f"{FILES}/{item['path']}"] = (kind, what["name"], item["key"])
    settings = Settings.from_environment(environment(one_helm, {"prometheus": values}))
    paths = {"ca": settings.prometheus_ca_file, "token": settings.prometheus_token_file}
    assert {name for name, path in paths.items() if path} == files.keys()
    assert found == {paths[name]: source for name, source in files.items()}


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://prometheus.monitoring:9090", 9090),
        ("http://prometheus/prometheus", 80),
        ("https://$(namespace).example/a:1", 443),
        ("https://$(namespace).example:8443/$(namespace)/", 8443),
        ("https://[fd00::1]", 443),
        ("https://[fd00::1]:9443/", 9443),
    ],
)
def test_the_policy_lets_the_operator_out_to_prometheus(
    one_helm: Helm, url: str, port: int
) -> None:
    values = {"networkPolicy": {"enabled": True}}
    (before,) = of_kind(one_helm.template(values), "NetworkPolicy")
    (after,) = of_kind(one_helm.template({**values, "prometheus": {"url": url}}), "NetworkPolicy")
    more = [rule for rule in after["spec"]["egress"] if rule not in before["spec"]["egress"]]
    assert more == [{"ports": [{"port": port, "protocol": "TCP"}]}]


# --- metrics


METRICS = {"metrics": {"enabled": True, "port": 9500}}


def test_without_metrics_nothing_is_served_and_nobody_let_in(one_helm: Helm) -> None:
    objects = one_helm.template({"networkPolicy": {"enabled": True}})
    assert of_kind(objects, "Service") == []
    assert [port["name"] for port in container(one_helm, {})["ports"]] == ["health"]
    (policy,) = of_kind(objects, "NetworkPolicy")
    assert "ingress" not in policy["spec"]  # no rule lets anybody in


def test_the_service_finds_where_the_operator_serves_its_metrics(one_helm: Helm) -> None:
    objects = one_helm.template(METRICS)
    (deployment,), (service,) = of_kind(objects, "Deployment"), of_kind(objects, "Service")
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    (port,) = service["spec"]["ports"]
    (served,) = (p for p in container(one_helm, METRICS)["ports"] if p["name"] == "metrics")
    assert (port["targetPort"], port["port"]) == (served["name"], served["containerPort"])
    settings = Settings.from_environment(environment(one_helm, METRICS))
    assert settings.operator_metrics_port == served["containerPort"] == 9500


@pytest.mark.parametrize("peers", [[], [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]])
def test_the_policy_lets_scrapers_in_at_that_port_only(one_helm: Helm, peers: list[Object]) -> None:
    values = merged(METRICS, {"networkPolicy": {"enabled": True, "metricsFrom": peers}})
    (policy,) = of_kind(one_helm.template(values), "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"port": 9500, "protocol": "TCP"}]
    assert rule.get("from", []) == peers


def test_monitors_are_made_on_demand_only(one_helm: Helm) -> None:
    kinds = {each["kind"] for each in one_helm.template(METRICS)}
    assert not kinds & {"ServiceMonitor", "PodMonitor"}


def test_the_monitor_of_the_operator_finds_the_service(one_helm: Helm) -> None:
    monitor = {"enabled": True, "labels": {"release": "x"}, "interval": "1m"}
    objects = one_helm.template(merged(METRICS, {"metrics": {"serviceMonitor": monitor}}))
    (found,), (service,) = of_kind(objects, "ServiceMonitor"), of_kind(objects, "Service")
    assert found["apiVersion"] == MONITORING
    assert found["metadata"]["labels"]["release"] == "x"
    assert found["metadata"]["namespace"] == service["metadata"]["namespace"]
    labels = found["spec"].pop("selector")["matchLabels"]
    assert labels.items() <= service["metadata"]["labels"].items()
    port = service["spec"]["ports"][0]["name"]
    endpoint = {"port": port, "honorLabels": True, "interval": "1m"}
    assert found["spec"] == {"endpoints": [endpoint]}


def trial_pod(values: Values, one_helm: Helm) -> Object:
    """As the operator that has these values makes it, and the Job controller labels it."""
    study = builders.study(spec=parse(self_test_study("self-test", "image")["spec"]))
    settings = Settings.from_environment(environment(one_helm, values))
    pod = probe_pod(job(study, builders.trial(0, TrialPhase.QUEUED), "uid", settings))
    pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] = pod["metadata"]["name"]
    return pod


@pytest.mark.parametrize(
    ("mode", "where"),
    [("all namespaces", {"any": True}), ("two namespaces", {"matchNames": ["team-a", "team-b"]})],
)
def test_the_monitor_of_the_trials_finds_their_sidecars(
    one_helm: Helm, mode: str, where: Object
) -> None:
    values = merged(MODES[mode], {"metrics": {"podMonitor": {"enabled": True, "interval": "5s"}}})
    (monitor,) = of_kind(one_helm.template(values), "PodMonitor")
    assert monitor["apiVersion"] == MONITORING
    assert monitor["spec"].keys() == {"namespaceSelector", "selector", "podMetricsEndpoints"}
    assert monitor["spec"]["namespaceSelector"] == where
    pod = trial_pod(values, one_helm)
    labels = pod["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    keep, *named = endpoint.pop("relabelings")
    assert endpoint == {"port": "metrics", "interval": "5s"}
    (sidecar,) = (c for c in pod["spec"]["initContainers"] if c["name"] == keep["regex"])
    assert [port["name"] for port in sidecar["ports"]] == ["metrics"]
    assert (keep["action"], keep["sourceLabels"]) == (
        "keep",
        ["__meta_kubernetes_pod_container_name"],
    )
    discovered = {
        "__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", name): value
        for name, value in labels.items()
    }
    target = {rule["targetLabel"]: discovered[rule["sourceLabels"][0]] for rule in named}
    assert target == {"study": "digits", "trial": "0", "run": pod["metadata"]["name"]}


# --- dashboards


def dashboards(one_helm: Helm, **values: Any) -> list[Object]:
    given = {"metrics": {"enabled": True}, "dashboards": values}
    return of_kind(one_helm.template(given), "ConfigMap")


def test_dashboards_are_made_on_demand_only(one_helm: Helm) -> None:
    assert dashboards(one_helm) == []


def test_grafana_gets_the_dashboards_as_they_are(one_helm: Helm) -> None:
    """Braces and all: helm would take `{{trial}}` for its own."""
    found = dict(
        item for each in dashboards(one_helm, enabled=True) for item in each["data"].items()
    )
    files = (CHART / "files" / "dashboards").glob("*.json")
    expected = {f"primo-{path.name}": path.read_text(encoding="utf-8") for path in files}
    assert len(expected) == 3
    assert found == expected


@pytest.mark.parametrize(
    ("values", "namespace", "label", "folder"),
    [
        ({}, NAMESPACE, "1", None),
        ({"namespace": "monitoring", "folder": "ML"}, "monitoring", "1", "ML"),
        ({"labels": {"grafana_dashboard": "yes"}}, NAMESPACE, "yes", None),
    ],
)
def test_grafanas_sidecar_finds_the_dashboards(
    one_helm: Helm, values: Values, namespace: str, label: str, folder: str | None
) -> None:
    found = dashboards(one_helm, enabled=True, **values)
    assert {each["metadata"]["namespace"] for each in found} == {namespace}
    assert {each["metadata"]["labels"]["grafana_dashboard"] for each in found} == {label}
    for each in found:
        assert each["metadata"].get("annotations", {}).get("grafana_folder") == folder


# --- alerts


def rule_object(one_helm: Helm, **rules: Any) -> Object:
    values = merged(METRICS, {"metrics": {"rules": {"enabled": True, **rules}}})
    (found,) = of_kind(one_helm.template(values), "PrometheusRule")
    return found


def test_alerts_are_made_on_demand_only(one_helm: Helm) -> None:
    assert of_kind(one_helm.template(METRICS), "PrometheusRule") == []


def test_the_rules_are_those_of_the_file_whatever_is_in_their_templates(one_helm: Helm) -> None:
    found = rule_object(one_helm)
    assert found["apiVersion"] == MONITORING
    assert found["metadata"]["namespace"] == NAMESPACE
    assert found["spec"] == {"groups": groups()}


def test_alerts_are_labelled_and_lead_to_their_runbooks(one_helm: Helm) -> None:
    given = FEATURES["alerts elsewhere"]["metrics"]["rules"]
    found = rule_object(one_helm, **given)
    metadata = found["metadata"]
    assert metadata["namespace"] == "monitoring"
    assert (metadata["labels"]["release"], metadata["annotations"]["owner"]) == (
        "monitoring",
        "sre",
    )
    expected = groups()
    for rule in (rule for group in expected for rule in group["rules"] if "alert" in rule):
        rule["labels"]["team"] = "ml"
        page = rule["annotations"]["runbook_url"]
        rule["annotations"]["runbook_url"] = f"https://git.example/primo/blob/main/{page}"
    assert found["spec"] == {"groups": expected}


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: `make prometheus` fetches Debian's")
@pytest.mark.parametrize("name", ["alerts", "alerts elsewhere"])
def test_promtool_takes_what_prometheus_operator_makes_of_them(
    one_helm: Helm, name: str, tmp_path: Path
) -> None:
    """It writes the spec as it is into a file of Prometheus's; unknown fields are refused."""
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(rule_object(one_helm, **FEATURES[name]["metrics"]["rules"])["spec"]))
    done = subprocess.run(
        [PROMTOOL or "", "check", "rules", "--lint=all", "--lint-fatal", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# --- what users are told


def notes(helm: Helm, values: dict[str, Any]) -> str:
    """Only Helm 4 shows them without a cluster."""
    arguments = ("install", RELEASE, str(CHART), "-n", NAMESPACE, "--dry-run=client")
    return helm(*arguments, values=values).partition("NOTES:\n")[2]


@pytest.mark.parametrize("mode", MODES)
def test_the_commands_of_the_notes_name_what_there_is(one_helm: Helm, mode: str) -> None:
    text = notes(one_helm, merged(MODES[mode], {"fullnameOverride": "tuner"}))
    assert f"kubectl --namespace {NAMESPACE} rollout status deployment/tuner" in text
    assert f"helm test {RELEASE} --namespace {NAMESPACE}" in text
    assert f"kubectl --namespace {NAMESPACE} logs tuner-self-test" in text
    (watched,) = re.findall(r"--namespace (\S+) get primostudies,primotrials", text)
    assert watched == (NAMESPACE if mode == "all namespaces" else "team-a")
    deleted = re.search(r"delete crd (.+)", text)
    assert deleted
    assert set(deleted[1].split()) == definitions_of_ours().keys()


@pytest.mark.parametrize(
    ("namespaces", "said"),
    [([], "no namespace (prometheus.namespaces is empty)"), (["a", "b"], "a, b"),
     (["*"], "all namespaces")],
)  # fmt: skip
def test_the_notes_say_who_may_ask_prometheus(
    one_helm: Helm, namespaces: list[str], said: str
) -> None:
    text = notes(one_helm, {"prometheus": {"url": "http://h", "namespaces": namespaces}})
    assert f"Objectives may be queries to http://h, in studies of {said}.\n" in text
    assert "Objectives" not in notes(one_helm, {})


def test_the_notes_say_where_images_without_a_registry_come_from(one_helm: Helm) -> None:
    assert "imageRegistry is empty: images that name no registry" in notes(one_helm, {})
    assert "imageRegistry" not in notes(one_helm, {"imageRegistry": "registry.example/team"})


def test_the_self_test_runs_where_the_operator_watches(rendering: list[Object]) -> None:
    (deployment,) = of_kind(rendering, "Deployment")
    args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    watched = [a.removeprefix("--namespace=") for a in args if a.startswith("--namespace=")]
    (pod,) = of_kind(rendering, "Pod")
    (where,) = (
        a.removeprefix("--namespace=")
        for a in pod["spec"]["containers"][0]["args"]
        if a.startswith("--namespace=")
    )
    assert where in (watched or [NAMESPACE])


def test_the_trials_of_the_self_test_may_run_where_the_operator_may(one_helm: Helm) -> None:
    values = {
        **FEATURES["placement"],
        **FEATURES["users by admission, as on OpenShift"],
        "imagePullSecrets": [{"name": "pull"}],
    }
    (pod,) = of_kind(one_helm.template(values), "Pod")
    given = dict(arg.split("=", 1) for arg in pod["spec"]["containers"][0]["args"])
    shared = ("imagePullSecrets", "nodeSelector", "tolerations")
    assert json.loads(given["--pod"]) == {name: values[name] for name in shared}
    assert given["--user"] == "0"


def test_a_release_may_have_dots_in_its_name(one_helm: Helm) -> None:
    values = FEATURES["metrics"]
    text = one_helm("template", "my.tuner", str(CHART), "-n", NAMESPACE, values=values)
    objects = [found for found in yaml.safe_load_all(text) if found]
    (service,) = of_kind(objects, "Service")
    assert service["metadata"]["name"] == "my-tuner-primo-operator-metrics"
    (pod,) = of_kind(objects, "Pod")
    assert "--name=self-test-my-tuner" in pod["spec"]["containers"][0]["args"]
