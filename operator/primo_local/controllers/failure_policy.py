"""A Job's podFailurePolicy: what one failed pod means for the Job. The first fitting rule holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from primo_local.client import Obj


class Verdict(StrEnum):
    COUNT = "Count"
    IGNORE = "Ignore"
    FAIL_JOB = "FailJob"


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    message: str = ""

    @property
    def counts(self) -> bool:
        """Towards the backoff limit."""
        return self.verdict is not Verdict.IGNORE


def judge(rules: Sequence[Obj], pod: Obj) -> Judgement:
    """Without a rule that fits a failure simply counts."""
    for index, rule in enumerate(rules):
        found = _by_exit_code(rule, pod) or _by_condition(rule, pod)
        if found:
            verdict = Verdict(rule["action"])
            return Judgement(verdict, f"{found} matching {verdict} rule at index {index}")
    return Judgement(Verdict.COUNT)


def _by_exit_code(rule: Obj, pod: Obj) -> str:
    wanted = rule.get("onExitCodes")
    if not wanted:
        return ""
    for name, code in _exit_codes(pod):
        named = wanted.get("containerName")
        if code == 0 or (named and named != name):
            continue
        if (code in wanted["values"]) == (wanted["operator"] == "In"):
            return f"Container {name} for pod {_name(pod)} failed with exit code {code}"
    return ""


def _by_condition(rule: Obj, pod: Obj) -> str:
    conditions = (pod.get("status") or {}).get("conditions") or []
    for wanted in rule.get("onPodConditions") or []:
        for condition in conditions:
            same_status = condition["status"] == wanted.get("status", "True")
            if condition["type"] == wanted["type"] and same_status:
                return f"Pod {_name(pod)} has condition {wanted['type']}"
    return ""


def _exit_codes(pod: Obj) -> Iterator[tuple[str, int]]:
    status = pod.get("status") or {}
    for group in ("containerStatuses", "initContainerStatuses"):
        for container in status.get(group) or []:
            ended = (container.get("state") or {}).get("terminated")
            if ended:
                yield container["name"], int(ended.get("exitCode", 0))


def _name(pod: Obj) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
