"""The Pod Security Standards, `baseline` and `restricted`, as rules over a pod's spec.

From kubernetes.io/docs/concepts/security/pod-security-standards; Linux pods only.
"""

from collections.abc import Callable, Iterator
from typing import Any

Spec = dict[str, Any]
VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SELINUX = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SECCOMP = {"RuntimeDefault", "Localhost"}
HOOKS = ("livenessProbe", "readinessProbe", "startupProbe")


def _containers(spec: Spec) -> Iterator[Spec]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def _contexts(spec: Spec) -> Iterator[Spec]:
    """Of the pod and of every container."""
    yield spec.get("securityContext") or {}
    yield from (container.get("securityContext") or {} for container in _containers(spec))


def _effective(spec: Spec, key: str) -> list[Any]:
    """For each container, what it says, or else what the pod says."""
    pod = (spec.get("securityContext") or {}).get(key)
    own = [(c.get("securityContext") or {}).get(key) for c in _containers(spec)]
    return [pod if value is None else value for value in own]


def _own(spec: Spec, key: str) -> list[Any]:
    return [(c.get("securityContext") or {}).get(key) for c in _containers(spec)]


def _capabilities(spec: Spec, key: str) -> list[set[str]]:
    return [set((found or {}).get(key) or ()) for found in _own(spec, "capabilities")]


def _handlers(spec: Spec) -> Iterator[Spec]:
    """What probes and lifecycle hooks do."""
    for container in _containers(spec):
        yield from (container[hook] for hook in HOOKS if hook in container)
        yield from (container.get("lifecycle") or {}).values()


def _hosts(spec: Spec) -> Iterator[str]:
    for handler in _handlers(spec):
        for action in ("httpGet", "tcpSocket"):
            yield (handler.get(action) or {}).get("host") or ""


RULES: dict[str, Callable[[Spec], bool]] = {
    "no host namespaces": lambda s: (
        not any(s.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    ),
    "no host processes": lambda s: (
        not any((c.get("windowsOptions") or {}).get("hostProcess") for c in _contexts(s))
    ),
    "not privileged": lambda s: not any(_own(s, "privileged")),
    "all capabilities dropped": lambda s: all("ALL" in d for d in _capabilities(s, "drop")),
    "none added but NET_BIND_SERVICE": lambda s: all(
        added <= {"NET_BIND_SERVICE"} for added in _capabilities(s, "add")
    ),
    "volumes of allowed kinds": lambda s: all(
        volume.keys() - {"name"} <= VOLUMES for volume in s.get("volumes") or ()
    ),
    "no host ports": lambda s: (
        not any(port.get("hostPort") for c in _containers(s) for port in c.get("ports") or ())
    ),
    "no hosts in probes and hooks": lambda s: not any(_hosts(s)),
    "AppArmor confined": lambda s: all(
        (c.get("appArmorProfile") or {}).get("type") != "Unconfined" for c in _contexts(s)
    ),
    "usual SELinux": lambda s: all(
        options.get("type") in SELINUX and not options.get("user") and not options.get("role")
        for options in ((c.get("seLinuxOptions") or {}) for c in _contexts(s))
    ),
    "default /proc": lambda s: all(v in (None, "Default") for v in _own(s, "procMount")),
    "safe sysctls": lambda s: all(
        sysctl["name"] in SYSCTLS
        for sysctl in (s.get("securityContext") or {}).get("sysctls") or ()
    ),
    "no privilege escalation": lambda s: all(
        value is False for value in _own(s, "allowPrivilegeEscalation")
    ),
    "not root": lambda s: all(value is True for value in _effective(s, "runAsNonRoot")),
    "no user 0": lambda s: all(c.get("runAsUser") != 0 for c in _contexts(s)),
    "seccomp": lambda s: all(
        (value or {}).get("type") in SECCOMP for value in _effective(s, "seccompProfile")
    ),
}


def broken(spec: Spec) -> list[str]:
    """The rules of `restricted` that a pod breaks."""
    return [name for name, holds in RULES.items() if not holds(spec)]
