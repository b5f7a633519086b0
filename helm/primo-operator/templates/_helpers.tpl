{{- define "primo.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* A release may have dots in its name, the name of a Service may not. */}}
{{- define "primo.fullname" -}}
{{- $name := printf "%s-%s" .Release.Name (include "primo.name" .) }}
{{- if .Values.fullnameOverride }}
{{- $name = .Values.fullnameOverride }}
{{- else if contains (include "primo.name" .) .Release.Name }}
{{- $name = .Release.Name }}
{{- end }}
{{- $name | replace "." "-" | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- /* Names of cluster-wide objects carry the namespace: two releases may have one name. A
       namespace has no dot, so the first one ends it. */}}
{{- define "primo.clusterName" -}}
{{- printf "%s.%s" .Release.Namespace (include "primo.fullname" .) }}
{{- end }}

{{- define "primo.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "primo.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- /* As the host of a URL. */}}
{{- define "primo.bindHost" -}}
{{- contains ":" .Values.bindAddress | ternary (printf "[%s]" .Values.bindAddress) .Values.bindAddress }}
{{- end }}

{{- define "primo.selector" -}}
app.kubernetes.io/name: {{ include "primo.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end }}

{{- /* Labels and annotations of an object. Called with a list: the root, the component, annotations
       and labels of its own. */}}
{{- define "primo.metadata" -}}
{{- $root := index . 0 -}}
labels:
  {{- merge (dict
        "app.kubernetes.io/name" (include "primo.name" $root)
        "app.kubernetes.io/instance" $root.Release.Name
        "app.kubernetes.io/component" (index . 1)
        "app.kubernetes.io/version" $root.Chart.AppVersion
        "app.kubernetes.io/part-of" "primo"
        "app.kubernetes.io/managed-by" $root.Release.Service
        "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-"))
      (index . 3) $root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (dict) (index . 2) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Called with a list: the root, and the values of an image. */}}
{{- define "primo.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- $name := $image.repository }}
{{- $first := splitList "/" $name | first }}
{{- $hasHost := and (contains "/" $name) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) }}
{{- if and $root.Values.imageRegistry (not $hasHost) }}
{{- $name = printf "%s/%s" (trimSuffix "/" $root.Values.imageRegistry) $name }}
{{- end }}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name ($image.tag | default $root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* Where the self-test's study runs: a namespace that the operator watches. */}}
{{- define "primo.selfTestNamespace" -}}
{{- if .Values.watch.namespaces }}
{{- first .Values.watch.namespaces }}
{{- else }}
{{- .Release.Namespace }}
{{- end }}
{{- end }}

{{- /* What a schema cannot say, or not in words: values that do not go together, and a URL. */}}
{{- define "primo.check" -}}
{{- if contains "://" .Values.imageRegistry }}
{{- fail (printf "imageRegistry: %q is a URL, expected host:port/path alone, as image names begin" .Values.imageRegistry) }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if eq "HOME" .name }}
{{- fail "extraEnv: HOME is the chart's, /tmp, where the operator may write, expected other variables" }}
{{- end }}
{{- if hasPrefix "PRIMO_" .name }}
{{- fail (printf "extraEnv: %s is the chart's, as all names that begin with PRIMO_, expected the value for it in settings, prometheus, metrics or sidecar" .name) }}
{{- end }}
{{- end }}
{{- if and .Values.metrics.enabled (eq (int .Values.metrics.port) (int .Values.probes.port)) }}
{{- fail (printf "metrics.port: %d is the port of the probes (probes.port), expected another" (int .Values.metrics.port)) }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.enabled) }}
{{- fail "metrics.serviceMonitor.enabled: true needs metrics.enabled, which is false" }}
{{- end }}
{{- if and .Values.dashboards.enabled (not .Values.metrics.enabled) }}
{{- fail "dashboards.enabled: true needs metrics.enabled, which is false" }}
{{- end }}
{{- if and .Values.metrics.rules.enabled (not .Values.metrics.enabled) }}
{{- fail "metrics.rules.enabled: true needs metrics.enabled, which is false" }}
{{- end }}
{{- range $name := list "alertname" "severity" "namespace" "study" "job" }}
{{- if hasKey $.Values.metrics.rules.alertLabels $name }}
{{- fail (printf "metrics.rules.alertLabels.%s: is the alerts' own, expected another label" $name) }}
{{- end }}
{{- end }}
{{- if and .Values.metrics.podMonitor.enabled (eq (int .Values.sidecar.metricsPort) 0) }}
{{- fail "metrics.podMonitor.enabled: true needs a sidecar.metricsPort, which is 0" }}
{{- end }}
{{- $part := `(\$\(namespace\)|[A-Za-z0-9._-])` }}
{{- $url := printf `^https?://(%s+|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?(/(%s|[~:/])*)?$` $part $part }}
{{- with .Values.prometheus.url }}
{{- $port := int (regexReplaceAll `^https?://(\[[^]]*\]|[^:/]+)(:([0-9]+))?(/.*)?$` . "${3}") }}
{{- if or (not (regexMatch $url .)) (regexMatch `/api/v1/query/?$` .) (gt $port 65535) }}
{{- fail (printf "prometheus.url: %q is not a base URL, expected http(s)://host:port/path without user, query, /api/v1/query, or a $(...) but $(namespace)" .) }}
{{- end }}
{{- end }}
{{- if and .Values.prometheus.namespaces (not .Values.prometheus.url) }}
{{- fail (printf "prometheus.namespaces: %s may ask nobody, expected a prometheus.url, which is empty" (join ", " .Values.prometheus.namespaces)) }}
{{- end }}
{{- range $name := list "ca" "token" }}
{{- $given := index $.Values.prometheus $name }}
{{- if and (or $given.secret $given.configMap) (not $.Values.prometheus.url) }}
{{- fail (printf "prometheus.%s: is for nothing, expected a prometheus.url, which is empty" $name) }}
{{- end }}
{{- end }}
{{- with .Values.prometheus.ca }}
{{- if and .configMap .secret }}
{{- fail (printf "prometheus.ca.secret: %q is beside prometheus.ca.configMap, expected one of them" .secret) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Certificates and token for Prometheus, as sources of a volume. The kubelet reads them; the
       operator has no right to. */}}
{{- define "primo.prometheusFiles" -}}
{{- with .Values.prometheus }}
{{- if and .url .ca.configMap }}
- configMap:
    name: {{ .ca.configMap | quote }}
    items: [{key: {{ .ca.key | quote }}, path: ca.crt}]
{{- end }}
{{- if and .url .ca.secret }}
- secret:
    name: {{ .ca.secret | quote }}
    items: [{key: {{ .ca.key | quote }}, path: ca.crt}]
{{- end }}
{{- if and .url .token.secret }}
- secret:
    name: {{ .token.secret | quote }}
    items: [{key: {{ .token.key | quote }}, path: token}]
{{- end }}
{{- end }}
{{- end }}

{{- define "primo.prometheusPort" -}}
{{- $host := (urlParse .Values.prometheus.url).host }}
{{- $given := regexFind ":[0-9]+$" $host | trimPrefix ":" }}
{{- $given | default (ternary "443" "80" (hasPrefix "https:" .Values.prometheus.url)) }}
{{- end }}

{{- /* What the operator calls; tests/chart/test_rbac.py derives the same from its code. */}}
{{- define "primo.rules" -}}
# Studies are read and watched; only their status is written.
- apiGroups: [primo.dev]
  resources: [primostudies]
  verbs: [get, list, watch]
# A trial's object is made before its first Job; one that a user has made gets its number. It is
# asked for by name when its name turns out to be taken.
- apiGroups: [primo.dev]
  resources: [primotrials]
  verbs: [create, get, list, patch, watch]
- apiGroups: [primo.dev]
  resources: [primostudies/status, primotrials/status]
  verbs: [patch]
# Owner references with blockOwnerDeletion, where OwnerReferencesPermissionEnforcement is on.
- apiGroups: [primo.dev]
  resources: [primostudies/finalizers, primotrials/finalizers]
  verbs: [update]
# One Job for each run of a trial; how long it is kept is patched on when its result is written.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, delete, get, list, patch, watch]
# Results are read from the pods' status. Pods are created as a dry run only, to learn what
# admission says of a study's template; who may create Jobs may run pods anyway.
- apiGroups: [""]
  resources: [pods]
  verbs: [create, list, watch]
# What happens is told as Events; why a Job has no pods is only told by its Events.
- apiGroups: [""]
  resources: [events]
  verbs: [create, list]
{{- end }}
