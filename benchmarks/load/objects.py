"""The studies, trials and Jobs that the load is made of."""

from typing import Any

from primo_local.client import Resource
from primo_operator import names

Obj = dict[str, Any]

NODE = "hollow"
STUDY_LABEL = names.STUDY_LABEL
KIND_LABEL = "load"  # of bare Jobs
STUDIES = Resource(names.API_VERSION, names.STUDY_KIND, names.STUDIES)
TRIALS = Resource(names.API_VERSION, names.TRIAL_KIND, names.TRIALS)
FOR_EVER = (1e7, 1e7)
STAMP = "2026-01-01T00:00:00Z"


def job_spec(seconds: tuple[float, float]) -> Obj:
    """A pod that the hollow node ends after a time between these two."""
    container = {
        "name": "train",
        "image": "none.invalid/none:1",
        "command": ["run", *map(str, seconds)],
    }
    pod = {"nodeName": NODE, "restartPolicy": "Never", "containers": [container]}
    return {"template": {"spec": pod}}


def study(name: str, trials: int, parallelism: int, seconds: tuple[float, float]) -> Obj:
    """Two objectives, eight parameters, random suggestions."""
    return {
        "metadata": {"name": name},
        "spec": {
            "objectives": [
                {"name": "a", "goal": "Minimize", "metric": "a"},
                {"name": "b", "goal": "Minimize", "metric": "b"},
            ],
            "parameters": [{"name": f"x{k}", "float": {"min": 0, "max": 1}} for k in range(8)],
            "algorithm": {"name": "random"},
            "budget": {"trials": trials},
            "parallelism": parallelism,
            "trialTemplate": {"spec": job_spec(seconds)},
        },
    }


def bare_job(name: str, kind: str, spec: Obj) -> Obj:
    """One of nobody's."""
    labels = {KIND_LABEL: kind}
    template = {**spec["template"], "metadata": {"labels": labels}}
    job_spec = {**spec, "backoffLimit": 0, "template": template}
    return {"metadata": {"name": name, "labels": labels}, "spec": job_spec}


def ended_trial(owner: Obj, number: int) -> tuple[Obj, Obj]:
    """A trial with one run and one observation, as the operator would have left it; its status."""
    study_name, uid = owner["metadata"]["name"], owner["metadata"]["uid"]
    name = names.trial(study_name, uid, number)
    draw = (number * 0.6180339887498949) % 1.0
    values = {"a": draw, "b": 1.0 - draw * draw}
    obj = {
        "metadata": {
            "name": name,
            "labels": {
                names.STUDY_LABEL: study_name,
                names.TRIAL_LABEL: str(number),
                names.MANAGED_BY_LABEL: names.MANAGER,
            },
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.STUDY_KIND,
                    "name": study_name,
                    "uid": uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "study": study_name,
            "number": number,
            "parameters": {f"x{k}": (draw * (k + 1)) % 1.0 for k in range(8)},
            "suggestion": {"stage": "InitialDesign", "origin": "Uniform"},
        },
    }
    status = {
        "phase": "Completed",
        "reason": "Completed",
        "summary": f"a={values['a']:.4g}, b={values['b']:.4g}",
        "runs": [
            {
                "job": names.job(name, 0, 0),
                "rung": 0,
                "attempt": 0,
                "startedAt": STAMP,
                "finishedAt": STAMP,
                "reason": "Completed",
                "template": "0123456789abcdef",
            }
        ],
        "observations": [{"values": values, "step": 1, "observedAt": STAMP}],
    }
    return obj, {"status": status}
