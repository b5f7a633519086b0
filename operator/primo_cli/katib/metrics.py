"""How metrics leave the pod: Katib's collectors, and what takes their place.

Katib reads what the script writes for people; a PriMO trial appends lines of JSON to the file named
in PRIMO_REPORT_FILE. Two collectors can be stood in for without a change of the script: the default
one, for NAME=VALUE in the output, and that of TensorFlow's event files, which the sidecar reads.
"""

import posixpath
import re
from collections.abc import Sequence
from typing import Any

from primo_cli.katib.experiment import Spec
from primo_cli.katib.notes import Notes
from primo_cli.katib.template import pod_of, primary

Json = dict[str, Any]

_AT = "metricsCollectorSpec"
_VOLUME = "metrics-volume"
_DEFAULT_PATHS = {
    "File": "/var/log/katib/metrics.log",
    "TensorFlowEvent": "/var/log/katib/tfevent/",
}
_FOUND_BY_DEFAULT = re.compile(r"[A-Za-z0-9_|-]+")

# Sees the output as Katib's default filter does: a name, =, a number; each becomes a report. The
# command's exit code is the container's, not awk's. No `$(` in it: Kubernetes would expand it.
READ_OUTPUT = r"""names=$1
shift
# Debian's awk waits for 4 KiB of input unless told not to.
case `awk -W version 2>&1 </dev/null` in mawk*) at_once="-W interactive" ;; *) at_once= ;; esac
{ "$@" 2>&1; echo "$?" >"$PRIMO_REPORT_FILE.exit"; } | LC_ALL=C awk $at_once -v names="$names" '
  BEGIN {
    report = ENVIRON["PRIMO_REPORT_FILE"]
    count = split(names, listed, " ")
    for (i = 1; i <= count; i++) wanted[listed[i]] = 1
  }
  {
    print
    fflush()
    rest = $0
    while (match(rest, /[A-Za-z0-9_|-]+[ \t]*=[ \t]*[-+]?[0-9]*(\.[0-9]+)?([Ee][-+]?[0-9]+)?/)) {
      pair = substr(rest, RSTART, RLENGTH)
      rest = substr(rest, RSTART + RLENGTH)
      gsub(/[ \t]/, "", pair)
      middle = index(pair, "=")
      name = substr(pair, 1, middle - 1)
      value = substr(pair, middle + 1)
      if (name in wanted && value ~ /[0-9]/) {
        printf "{\"metrics\": {\"%s\": %.17g}}\n", name, value + 0 >>report
        fflush(report)
      }
    }
  }'
read -r status <"$PRIMO_REPORT_FILE.exit"
exit "$status"
"""


def convert_metrics(
    spec: Spec, template: Json, metrics: Sequence[str], fidelity: bool, wrap: bool, notes: Notes
) -> Json | None:
    """Say what the script has to do, or do it for the script; changes the template.

    Args:
        metrics: what the objectives are measured by, first of all; then what is only recorded.
        fidelity: the study has one.
        wrap: the container's command is to be wrapped in READ_OUTPUT, if it can be.

    Returns:
        The study's `reports`; None if it needs none.
    """
    folder = _folder_to_mount(spec, template)
    if folder and spec.collector.kind == "TensorFlowEvent":
        notes.mapped(
            _AT, f"is reports.tensorboard: the sidecar follows the event files in {folder}"
        )
        return {"tensorboard": folder}
    if folder:
        _mount_empty(folder, spec, template)
    container = primary(template, _primary_name(spec))
    obstacle = _obstacle(spec, container, metrics)
    if wrap and not obstacle:
        _wrap(container, metrics, notes)
        return None
    why = f" --wrap-command does not help: {obstacle}." if wrap else ""
    call = "Call" if wrap or obstacle else "Convert with --wrap-command, or call"
    notes.to_do(_AT, f"{_was(spec)}{why} {call} {_report_call(metrics, fidelity)}")
    return None


def _was(spec: Spec) -> str:
    """What Katib did, and why that is no more."""
    path = _path(spec)
    match spec.collector.kind:
        case "StdOut":
            return "nothing reads the output for metrics."
        case "File":
            return f"nothing reads {path}."
        case "TensorFlowEvent":
            return f"nothing reads event files in {path}."
        case "PrometheusMetric":
            return "nothing is scraped for objectives (nor did Katib ever do it)."
        case "Custom":
            name = (spec.collector.custom_collector or {}).get("name", "the collector")
            return f"the container {name} is left out."
        case "Push":
            return "report takes the place of report_metrics."
        case other:
            return f"the collector {other} is left out."


def _report_call(metrics: Sequence[str], fidelity: bool) -> str:
    if all(metric.isidentifier() for metric in metrics):
        values = ", ".join(f"{metric}=..." for metric in metrics)
    else:
        values = "**{" + ", ".join(f'"{metric}": ...' for metric in metrics) + "}"
    reached = "fidelity=epoch, " if fidelity else ""
    inner = ", ".join(f'"{metric}": 0.1' for metric in metrics)
    also = '"fidelity": 1, ' if fidelity else ""
    return (
        f"report(step=epoch, {reached}{values}), of primo_report, in the training loop; or"
        f' append a line such as {{"step": 1, {also}"metrics": {{{inner}}}}} to the file named in'
        " PRIMO_REPORT_FILE"
    )


# --- the folder that Katib mounted


def _path(spec: Spec) -> str | None:
    given = spec.source.file_system_path
    return (given.path if given else None) or _DEFAULT_PATHS.get(spec.collector.kind)


def _folder_to_mount(spec: Spec, template: Json) -> str | None:
    """Where Katib mounted a folder, since a script that writes there expects it.

    None if there was none, or the template has one there itself.
    """
    path = _path(spec)
    if path is None or not path.startswith("/"):
        return None
    given = spec.source.file_system_path
    kind = (given.kind if given else None) or (
        "Directory" if spec.collector.kind == "TensorFlowEvent" else "File"
    )
    folder = posixpath.normpath(path if kind == "Directory" else posixpath.dirname(path))
    container, pod = primary(template, _primary_name(spec)), pod_of(template)
    mounts, volumes = container.get("volumeMounts") or [], pod.get("volumes") or []
    if not (isinstance(mounts, list) and isinstance(volumes, list)):
        return None  # the check of the finished study says so
    taken = {posixpath.normpath(str(path)) for path in _each(mounts, "mountPath")}
    if folder == "/" or folder in taken or _VOLUME in _each(volumes, "name"):
        return None
    return folder


def _mount_empty(folder: str, spec: Spec, template: Json) -> None:
    container, pod = primary(template, _primary_name(spec)), pod_of(template)
    mount = {"name": _VOLUME, "mountPath": folder}
    container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]
    pod["volumes"] = [*(pod.get("volumes") or []), {"name": _VOLUME, "emptyDir": {}}]


def _each(items: Sequence[Any], field: str) -> list[Any]:
    """A field of each item that can have fields."""
    return [item.get(field) for item in items if isinstance(item, dict)]


# --- reading the output


def _obstacle(spec: Spec, container: Json, metrics: Sequence[str]) -> str:
    """Why the output cannot be read for metrics; empty if it can."""
    if spec.collector.kind != "StdOut":
        return f"it reads the output, and Katib's collector was {spec.collector.kind}"
    if spec.source.filter and spec.source.filter.metrics_format:
        return "it knows NAME=VALUE, and the Experiment has a metricsFormat of its own"
    if not _FOUND_BY_DEFAULT.fullmatch(metrics[0]):
        return f"{metrics[0]!r} is no NAME of NAME=VALUE"
    if not isinstance(container.get("command"), list) or not container["command"]:
        return "the container has no command, and what its image runs cannot be told from here"
    return ""


def _wrap(container: Json, metrics: Sequence[str], notes: Notes) -> None:
    seen = [metric for metric in metrics if _FOUND_BY_DEFAULT.fullmatch(metric)]
    command = container["command"]
    container["command"] = ["/bin/sh", "-c", READ_OUTPUT, "read-output", " ".join(seen), *command]
    notes.mapped(
        _AT,
        f"the command is wrapped: NAME=VALUE of {', '.join(seen)} in its output are reports. The"
        " image needs sh and awk. As with Katib, a pod that is told to stop uses up its grace"
        " period",
    )


def _primary_name(spec: Spec) -> str:
    return spec.trial_template.primary_container_name if spec.trial_template else ""
