"""The list of the built-in resources."""

from primo_local.apiserver.builtins.event import CoreEventStrategy, EventStrategy
from primo_local.apiserver.builtins.job import JobStrategy
from primo_local.apiserver.builtins.namespace import NamespaceStrategy
from primo_local.apiserver.builtins.node import NodeStrategy
from primo_local.apiserver.builtins.plain import (
    ConfigMapStrategy,
    LeaseStrategy,
    SecretStrategy,
    ServiceAccountStrategy,
    ServiceStrategy,
)
from primo_local.apiserver.builtins.pod import PodStrategy
from primo_local.apiserver.builtins.volume import (
    PersistentVolumeClaimStrategy,
    PersistentVolumeStrategy,
)
from primo_local.apiserver.crd import CustomResourceDefinitionStrategy
from primo_local.apiserver.registry import CREATE_ONLY, STATUS, Resource, Strategy, Subresource

_AUTHORIZATION = "authorization.k8s.io"

BUILTINS: tuple[Resource, ...] = (
    Resource("", "v1", "configmaps", "ConfigMap", ConfigMapStrategy(), short_names=("cm",)),
    Resource("", "v1", "events", "Event", CoreEventStrategy(), short_names=("ev",)),
    Resource(
        "",
        "v1",
        "namespaces",
        "Namespace",
        NamespaceStrategy(),
        namespaced=False,
        short_names=("ns",),
        verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
        subresources=(Subresource("finalize", ("update",)), STATUS),
    ),
    Resource(
        "",
        "v1",
        "nodes",
        "Node",
        NodeStrategy(),
        namespaced=False,
        short_names=("no",),
        subresources=(STATUS,),
    ),
    Resource(
        "",
        "v1",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
        PersistentVolumeClaimStrategy(),
        short_names=("pvc",),
        subresources=(STATUS,),
    ),
    Resource(
        "",
        "v1",
        "persistentvolumes",
        "PersistentVolume",
        PersistentVolumeStrategy(),
        namespaced=False,
        short_names=("pv",),
        subresources=(STATUS,),
    ),
    Resource(
        "",
        "v1",
        "pods",
        "Pod",
        PodStrategy(),
        short_names=("po",),
        categories=("all",),
        subresources=(
            Subresource("binding", CREATE_ONLY, kind="Binding"),
            Subresource("eviction", CREATE_ONLY, kind="Eviction", group="policy", version="v1"),
            Subresource("log", ("get",)),
            STATUS,
        ),
    ),
    Resource("", "v1", "secrets", "Secret", SecretStrategy()),
    Resource(
        "", "v1", "serviceaccounts", "ServiceAccount", ServiceAccountStrategy(), short_names=("sa",)
    ),
    Resource(
        "",
        "v1",
        "services",
        "Service",
        ServiceStrategy(),
        short_names=("svc",),
        categories=("all",),
        subresources=(STATUS,),
    ),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        CustomResourceDefinitionStrategy(),
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        subresources=(STATUS,),
    ),
    Resource(
        "authentication.k8s.io",
        "v1",
        "selfsubjectreviews",
        "SelfSubjectReview",
        Strategy(),
        namespaced=False,
        verbs=CREATE_ONLY,
    ),
    Resource(
        _AUTHORIZATION,
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        Strategy(),
        namespaced=False,
        verbs=CREATE_ONLY,
    ),
    Resource(
        _AUTHORIZATION,
        "v1",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        Strategy(),
        namespaced=False,
        verbs=CREATE_ONLY,
    ),
    Resource(
        "batch",
        "v1",
        "jobs",
        "Job",
        JobStrategy(),
        categories=("all",),
        subresources=(STATUS,),
    ),
    Resource("coordination.k8s.io", "v1", "leases", "Lease", LeaseStrategy()),
    Resource(
        "events.k8s.io",
        "v1",
        "events",
        "Event",
        EventStrategy(),
        short_names=("ev",),
        shelf="events",
    ),
)
