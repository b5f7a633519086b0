"""What we add to the user's template, and what we leave alone."""

import json
from dataclasses import replace
from typing import Any

import pytest

from primo_operator import names
from primo_operator.manifests import (
    adoption,
    job,
    message_limit,
    probe_job,
    probe_pod,
    trial_object,
)
from primo_operator.settings import Settings
from primo_optimizer import Suggestion
from primo_study.phases import TrialPhase
from support.builders import run, spec, study, trial

USUAL = Settings()
CHECKPOINTS = {"claimName": "ckpt", "mountPath": "/checkpoints"}


def made(settings: Settings = USUAL, **fields: Any) -> dict[str, Any]:
    container = {
        "name": "train",
        "image": "i",
        "command": ["python", "train.py", "--lr=$(PRIMO_PARAM_LR)"],
        "env": [{"name": "MINE", "value": "$(PRIMO_PARAM_LR)"}],
        **fields.pop("container", {}),
    }
    template = {
        "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "gpu"}},
        "spec": {"template": {"spec": {"containers": [container], **fields.pop("pod", {})}}},
    }
    given = spec(
        trialTemplate=template, checkpoints=CHECKPOINTS, reports=fields.pop("reports", None)
    )
    found = study(spec=given)
    record = trial(17, TrialPhase.QUEUED, run(1, resume_from=1.0))
    return job(found, record, "trial-uid", settings)


def sidecar_of(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]["initContainers"][0]
    return found


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


def test_one_attempt_is_one_job_with_one_pod() -> None:
    found = made()
    assert {k: found["spec"][k] for k in ("backoffLimit", "completions", "parallelism")} == {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
    }
    assert found["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert "ttlSecondsAfterFinished" not in found["spec"]


def test_what_the_template_leaves_null_is_as_if_it_were_not_there() -> None:
    policy = "terminationMessagePolicy"
    nulls = dict.fromkeys(("restartPolicy", "automountServiceAccountToken", "enableServiceLinks"))
    found = made(pod=nulls, container={policy: None})["spec"]["template"]["spec"]
    assert {name: found[name] for name in nulls} == {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }
    assert found["containers"][0][policy] == "FallbackToLogsOnError"


def test_queue_and_priority_reach_job_and_pod() -> None:
    labels = {"kueue.x-k8s.io/queue-name": "gpu", "kueue.x-k8s.io/priority-class": "low"}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "template": {
                "spec": {"containers": [{"name": "c", "image": "i"}], "priorityClassName": "batch"}
            }
        },
    }
    found = job(study(spec=spec(trialTemplate=template)), trial(0), "u", Settings())
    assert labels.items() <= found["metadata"]["labels"].items()
    assert found["spec"]["template"]["spec"]["priorityClassName"] == "batch"
    assert "suspend" not in found["spec"], "the queue's own admission decides"


def test_a_job_tells_which_template_it_is_made_of() -> None:
    one, two = made(), made(container={"image": "other"})
    hashes = [found["metadata"]["labels"][names.TEMPLATE_LABEL] for found in (one, two)]
    assert hashes[0] != hashes[1]
    assert one["spec"]["template"]["metadata"]["labels"][names.TEMPLATE_LABEL] == hashes[0]


def test_a_trial_of_the_users_keeps_its_owners_and_has_one_controller() -> None:
    owner = {"kind": "Application", "uid": "their-own", "controller": True}
    theirs = {"metadata": {"ownerReferences": [owner]}, "spec": {}}
    patch = adoption(study(), theirs, 7, 9.0)
    first, ours = patch["metadata"]["ownerReferences"]
    assert first == owner
    assert (ours["kind"], ours["uid"], ours["controller"]) == (
        "PriMOStudy",
        study().uid,
        False,
    )
    assert patch["metadata"]["labels"][names.TRIAL_LABEL] == "7"
    assert patch["spec"] == {"number": 7, "fidelity": 9.0, "suggestion": {"origin": "User"}}
    without = adoption(study(), {"metadata": {}, "spec": {}}, 7, None)
    (alone,) = without["metadata"]["ownerReferences"]
    assert alone["controller"] is True


def test_the_sidecar_keeps_room_for_objectives_and_constraints() -> None:
    bounds = [{"metric": "memory_gib", "atMost": 40}, {"metric": "kmacs", "atMost": 9}]
    found = job(study(spec=spec(constraints=bounds)), trial(1), "trial-uid", Settings())
    pod = found["spec"]["template"]["spec"]
    for container in (*pod["containers"], pod["initContainers"][0]):
        wanted = json.loads(environment(container)["PRIMO_METRICS"])
        assert wanted == ["val_error", "kmacs", "memory_gib"]


def test_a_parameter_that_is_not_there_has_no_variable() -> None:
    parameters = [
        {"name": "optimizer", "categorical": {"choices": ["adam", "sgd"]}},
        {"name": "momentum", "float": {"min": 0, "max": 1}, "when": {"optimizer": ["sgd"]}},
    ]
    record = replace(trial(1), configuration={"optimizer": "adam"})
    found = job(study(spec=spec(parameters=parameters)), record, "trial-uid", Settings())
    values = environment(found["spec"]["template"]["spec"]["containers"][0])
    assert json.loads(values["PRIMO_PARAMS"]) == {"optimizer": "adam"}
    assert [name for name in values if name.startswith("PRIMO_PARAM_")] == ["PRIMO_PARAM_OPTIMIZER"]


def test_the_command_is_never_touched() -> None:
    (container,) = made()["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "train.py", "--lr=$(PRIMO_PARAM_LR)"]


def test_our_environment_stands_first_so_that_the_users_can_refer_to_it() -> None:
    (container,) = made()["spec"]["template"]["spec"]["containers"]
    assert container["env"][-1]["name"] == "MINE"
    values = environment(container)
    assert values["PRIMO_FIDELITY"] == "3"
    assert values["PRIMO_RESUME_FROM"] == "1"
    assert values["PRIMO_CHECKPOINT_DIR"] == "/checkpoints/digits-00000001/17"
    assert json.loads(values["PRIMO_PARAMS"]) == {"lr": 0.027}
    assert values["PRIMO_PARAM_LR"] == "0.027"


def test_a_dollar_in_a_choice_reaches_the_trial_as_it_is() -> None:
    choices = [{"name": "opt", "categorical": {"choices": ["$(HOME)", "$$"]}}]
    found = study(spec=spec(parameters=choices))
    record = replace(trial(0), configuration={"opt": "$(HOME)"})
    (container,) = job(found, record, "u", Settings())["spec"]["template"]["spec"]["containers"]
    # Kubernetes makes $$(HOME) of it the text $(HOME).
    assert environment(container)["PRIMO_PARAM_OPT"] == "$$(HOME)"


def test_the_last_words_of_all_the_users_containers_are_kept_unless_they_say_otherwise() -> None:
    init = [{"name": "fetch", "image": "i"}]
    kept = made(pod={"initContainers": init})["spec"]["template"]["spec"]
    init = [{**init[0], "terminationMessagePolicy": "File"}]
    as_given = made(pod={"initContainers": init})["spec"]["template"]["spec"]
    policy = "terminationMessagePolicy"
    assert kept["containers"][0][policy] == "FallbackToLogsOnError"
    assert kept["initContainers"][1][policy] == "FallbackToLogsOnError"
    assert as_given["initContainers"][1][policy] == "File"


def test_the_sidecar_starts_first_and_passes_pod_security_restricted() -> None:
    sidecar = made(pod={"initContainers": [{"name": "fetch", "image": "i"}]})["spec"]["template"][
        "spec"
    ]["initContainers"][0]
    assert sidecar["name"] == names.SIDECAR
    assert sidecar["restartPolicy"] == "Always"
    security = sidecar["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert set(sidecar["resources"]["limits"]) == {"cpu", "memory"}


@pytest.mark.parametrize(
    ("grace_s", "drain_s"), [(None, "25"), (300, "295"), (0, "1"), ("30", "25")]
)
def test_the_sidecar_reads_for_as_long_as_the_pods_end_may_take(
    grace_s: object, drain_s: str
) -> None:
    sidecar = sidecar_of(made(pod={"terminationGracePeriodSeconds": grace_s}))
    assert environment(sidecar)["PRIMO_DRAIN_S"] == drain_s


def test_the_sidecars_user_may_be_left_to_others() -> None:
    assert "runAsUser" not in sidecar_of(made(Settings(sidecar_user=0)))["securityContext"]
    assert sidecar_of(made())["securityContext"]["runAsUser"] == 65532


def test_in_the_nodes_network_no_port_is_declared_that_the_next_trial_would_wait_for() -> None:
    assert "ports" not in sidecar_of(made(pod={"hostNetwork": True}))
    assert sidecar_of(made())["ports"] == [{"name": "metrics", "containerPort": 9400}]


def test_event_files_have_a_volume_that_the_sidecar_reads() -> None:
    template = made(reports={"tensorboard": "/app/runs"})["spec"]["template"]
    pod = template["spec"]
    (container,), (sidecar,) = pod["containers"], pod["initContainers"]
    assert environment(container)["PRIMO_TENSORBOARD_DIR"] == "/app/runs"
    assert {"name": names.TENSORBOARD_VOLUME, "mountPath": "/app/runs"} in container["volumeMounts"]
    # Elsewhere than in the user's containers: there may be something of the sidecar's own.
    path = environment(sidecar)["PRIMO_TENSORBOARD_DIR"]
    assert path != "/app/runs"
    mount = {"name": names.TENSORBOARD_VOLUME, "mountPath": path, "readOnly": True}
    assert mount in sidecar["volumeMounts"]
    assert "emptyDir" in next(v for v in pod["volumes"] if v["name"] == names.TENSORBOARD_VOLUME)
    evictable = template["metadata"]["annotations"][names.SAFE_TO_EVICT]
    assert evictable == f"{names.REPORT_VOLUME},{names.TENSORBOARD_VOLUME}"


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        pytest.param("terminationMessagePolicy", None, "FallbackToLogsOnError", id="traceback"),
        pytest.param("terminationMessagePolicy", "File", "File", id="unless the user says so"),
    ],
)
def test_failing_containers_show_their_last_words(
    field: str, given: str | None, expected: str
) -> None:
    extra = {} if given is None else {field: given}
    (container,) = made(container=extra)["spec"]["template"]["spec"]["containers"]
    assert container[field] == expected


def test_labels_of_the_user_reach_the_job_and_ours_win() -> None:
    found = made()
    for metadata in (found["metadata"], found["spec"]["template"]["metadata"]):
        assert metadata["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
        assert metadata["labels"][names.TRIAL_LABEL] == "17"


def test_children_are_owned_so_that_they_go_with_their_study() -> None:
    (owner,) = made()["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("PriMOTrial", "trial-uid", True)
    (above,) = trial_object(study(), Suggestion(3, {"lr": 0.1}))["metadata"]["ownerReferences"]
    assert (above["kind"], above["uid"]) == ("PriMOStudy", "00000001-0000")


def test_the_longest_names_fit() -> None:
    name = names.job(names.trial("s" * 40, "12345678-90ab", 99999), 9, 99)
    assert len(name) <= 63


@pytest.mark.parametrize(("containers", "limit"), [(2, 4096), (3, 4096), (5, 2457), (24, 512)])
def test_the_message_limit_is_the_kubelets(containers: int, limit: int) -> None:
    assert message_limit(containers) == limit


def test_the_probe_is_a_job_like_the_others_and_its_pod() -> None:
    probe = probe_job(study(), Settings())
    pod = probe_pod(probe)
    assert pod["spec"] == probe["spec"]["template"]["spec"]
    assert pod["metadata"]["name"] == probe["metadata"]["name"]


def test_the_template_itself_is_left_as_it_was() -> None:
    found = study()
    assert found.spec
    before = json.dumps(found.spec.trial_template.spec)
    job(found, trial(0), "u", Settings())
    assert json.dumps(found.spec.trial_template.spec) == before


def test_a_trial_holds_which_priors_were_known() -> None:
    priors = [{"objective": "error", "parameters": [{"name": "lr", "center": 0.01}]}]
    suggestion = Suggestion(3, {"lr": 0.01}, 1.0, None, {"stage": "InitialDesign"})
    made = trial_object(study(spec=spec(priors=priors)), suggestion)
    assert made["spec"]["suggestion"] == {"stage": "InitialDesign", "priors": ["error"]}
    assert "priors" not in trial_object(study(), suggestion)["spec"]["suggestion"]
