"""Who am I and what may I do: whoever holds the token is the one user and may do everything."""

from primo_local.apiserver.objects import Json

_USER: Json = {
    "username": "local-admin",
    "groups": ["system:masters", "system:authenticated"],
}


def review(kind: str, body: Json) -> Json:
    """The answer to a SelfSubjectAccessReview, -RulesReview or -Review."""
    return {**body, "kind": kind, "metadata": body.get("metadata") or {}, "status": _status(kind)}


def _status(kind: str) -> Json:
    if kind == "SelfSubjectAccessReview":
        return {"allowed": True, "reason": "this server has one user, who may do everything"}
    if kind == "SelfSubjectReview":
        return {"userInfo": _USER}
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    anywhere = {"verbs": ["*"], "nonResourceURLs": ["*"]}
    return {"resourceRules": [everything], "nonResourceRules": [anywhere], "incomplete": False}
