"""Discovery: which groups, versions and resources there are, in the old form and aggregated."""

import re
from collections.abc import Mapping

from primo_local.apiserver.errors import no_such_path
from primo_local.apiserver.objects import Json
from primo_local.apiserver.registry import Registry, Resource, Subresource

_AGGREGATED = re.compile(r"g=apidiscovery\.k8s\.io;v=(v2(?:beta1)?);as=APIGroupDiscoveryList")
_JSON = "application/json"


def discover(registry: Registry, parts: list[str], accept: str) -> tuple[Json, str]:
    """The document at /api, /apis, /apis/GROUP, /api/v1 or /apis/GROUP/VERSION.

    Returns:
        The document and its content type.
    """
    groups = registry.groups()
    asked = _AGGREGATED.search(accept.replace(" ", ""))
    if len(parts) == 1 and asked:
        version = asked[1]
        media = f"{_JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        return _aggregated(groups, parts[0] == "api", version), media
    match parts:
        case ["api"]:
            return {
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [],
            }, _JSON
        case ["api", version] if version in groups[""]:
            return _resource_list(groups[""][version]), _JSON
        case ["apis"]:
            named = [_group(name, versions) for name, versions in groups.items() if name]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}, _JSON
        case ["apis", name] if name in groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, groups[name])}, _JSON
        case ["apis", name, version] if version in groups.get(name, {}):
            return _resource_list(groups[name][version]), _JSON
    raise no_such_path()


def _group(name: str, versions: Mapping[str, object]) -> Json:
    served = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": served, "preferredVersion": served[0]}


def _resource_list(resources: list[Resource]) -> Json:
    listed = []
    for resource in resources:
        listed.append(_named(resource))
        listed += [_named_subresource(resource, each) for each in resource.subresources]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": resources[0].api_version,
        "resources": listed,
    }


def _named(resource: Resource) -> Json:
    entry: Json = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return entry


def _named_subresource(resource: Resource, each: Subresource) -> Json:
    entry: Json = {
        "name": f"{resource.plural}/{each.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": each.kind or resource.kind,
        "verbs": list(each.verbs),
    }
    if each.version:
        entry |= {"group": each.group, "version": each.version}
    return entry


def _aggregated(
    groups: Mapping[str, Mapping[str, list[Resource]]], core: bool, version: str
) -> Json:
    items = [
        {
            "metadata": {"name": name} if name else {},
            "versions": [
                {
                    "version": served,
                    "freshness": "Current",
                    "resources": [_discovered(each) for each in resources],
                }
                for served, resources in versions.items()
            ],
        }
        for name, versions in groups.items()
        if (name == "") is core
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _discovered(resource: Resource) -> Json:
    own = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    return {
        "resource": resource.plural,
        "responseKind": own,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
        "shortNames": list(resource.short_names),
        "categories": list(resource.categories),
        "subresources": [
            {
                "subresource": each.name,
                "responseKind": {
                    "group": resource.group if each.group is None else each.group,
                    "version": each.version or resource.version,
                    "kind": each.kind or resource.kind,
                },
                "verbs": list(each.verbs),
            }
            for each in resource.subresources
        ],
    }
