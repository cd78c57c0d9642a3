{{/* Name of an object: RELEASE-COMPONENT. A long release is cut and keeps a hash, so that names fit 63 characters
     (52 for a StatefulSet) and two releases stay apart. (list $ "gateway") */}}
{{- define "clinalign.name" -}}
{{- $root := index . 0 -}}
{{- $release := $root.Release.Name -}}
{{- if gt (len $release) 40 -}}
{{- $release = printf "%s-%s" (trunc 31 $release | trimSuffix "-") (sha256sum $release | trunc 8) -}}
{{- end -}}
{{- printf "%s-%s" $release (index . 1) -}}
{{- end -}}

{{/* What selects the pods of a component. Never changes between versions: selectors are immutable. (list $ "gateway") */}}
{{- define "clinalign.selector" -}}
{app.kubernetes.io/name: clinalign, app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}, app.kubernetes.io/component: {{ index . 1 }}}
{{- end -}}

{{/* Of every object. (list $ "gateway") */}}
{{- define "clinalign.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: clinalign
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Of pods. Nothing in them changes with the chart's version: that would restart a fleet that takes minutes to load. */}}
{{- define "clinalign.podLabels" -}}
app.kubernetes.io/name: clinalign
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
track: {{ (index . 0).Values.track }}
{{- end -}}

{{/* (list $ .Values.gateway.image) */}}
{{- define "clinalign.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if and $root.Values.images.registry (not (include "clinalign.namesHost" $image)) }}{{ trimSuffix "/" $root.Values.images.registry }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* "true" where an image's repository says which host has it, else nothing: Docker Hub. */}}
{{- define "clinalign.namesHost" -}}
{{- if regexMatch "^([^/]*[.:][^/]*|localhost)/" .repository }}true{{ end -}}
{{- end -}}

{{/* Of every pod: no token, no environment of other Services, no root. (list $ UID) */}}
{{- define "clinalign.pod" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ include "clinalign.name" (list $root "pods") }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ index . 1 }}
  runAsGroup: {{ index . 1 }}
  fsGroup: {{ index . 1 }}
  fsGroupChangePolicy: OnRootMismatch # a volume of weights is not walked at every start
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* Of every container: the standard "restricted", and a root that cannot be written. */}}
{{- define "clinalign.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* One variable from a Secret; nothing where none is named. (list "NAME" .Values.gateway.keys INDENT) */}}
{{- define "clinalign.secretEnv" -}}
{{- with index . 1 }}{{ if .existingSecret -}}
{{- printf "- {name: %s, valueFrom: {secretKeyRef: {name: %s, key: %s}}}" (first $) .existingSecret .key | nindent (last $) -}}
{{- end }}{{ end -}}
{{- end -}}

{{/* The deadline of an answer in whole seconds, rounded up. */}}
{{- define "clinalign.deadlineSeconds" -}}
{{- divf .Values.gateway.deadlineMs 1000 | ceil | int -}}
{{- end -}}

{{/* How long `helm test` may take: loading the model, and an answer. */}}
{{- define "clinalign.testSeconds" -}}
{{- add (eq (include "clinalign.asksVllm" .) "true" | ternary .Values.vllm.startupSeconds 180) (include "clinalign.deadlineSeconds" .) 60 -}}
{{- end -}}

{{/* "true" where the gateways ask the chart's own vLLM, else nothing. */}}
{{- define "clinalign.asksVllm" -}}
{{- if and .Values.vllm.enabled (not .Values.upstream.insteadOfVllm) }}true{{ end -}}
{{- end -}}

{{/* "true" where vLLM asks the hub for its model, else nothing. */}}
{{- define "clinalign.vllmDownloads" -}}
{{- if and .Values.vllm.enabled (eq .Values.vllm.model.source "hub") (not .Values.vllm.model.offline) }}true{{ end -}}
{{- end -}}

{{/* Where the model is served. */}}
{{- define "clinalign.upstreamUrl" -}}
{{- if include "clinalign.asksVllm" . -}}
http://{{ include "clinalign.name" (list . "vllm") }}.{{ .Release.Namespace }}.svc:8000
{{- else -}}
{{ .Values.upstream.url }}
{{- end -}}
{{- end -}}

{{/* ConfigMap of the principles, ours or an existing one; empty with the built-in principles. */}}
{{- define "clinalign.principlesConfigMap" -}}
{{- if .Values.index.principles.files -}}
{{ include "clinalign.name" (list . "principles") }}
{{- else -}}
{{ .Values.index.principles.configMap }}
{{- end -}}
{{- end -}}

{{/* What an index is made from: another hash is another folder, another Job and a restart. */}}
{{- define "clinalign.indexHash" -}}
{{- list .Values.index (include "clinalign.image" (list . .Values.gateway.image)) | toJson | sha256sum | trunc 8 -}}
{{- end -}}

{{/* Folder of the index where it is not the image's own. The parent is the volume: the build renames folders in it. */}}
{{- define "clinalign.indexDir" -}}
{{- if eq .Values.index.from "configMap" -}}
/var/lib/clinalign/index
{{- else -}}
/var/lib/clinalign/{{ .Values.index.claim.path }}{{ if .Values.index.job.enabled }}/{{ include "clinalign.indexHash" . }}{{ end }}
{{- end -}}
{{- end -}}

{{/* The command that builds it. */}}
{{- define "clinalign.indexBuild" -}}
command: [python, -m, principles_index, build]
args:
  {{- if include "clinalign.principlesConfigMap" . }}
  - --library=/etc/clinalign-principles
  {{- end }}
  - --encoder=/opt/clinalign/encoder
  - --out={{ include "clinalign.indexDir" . }}
{{- end -}}

{{/* With an autoscaler: as many as there are now, nothing on a first install. A field that a new revision leaves out falls
     back to 1, so turning an autoscaler on would take a fleet away. (list $ "Deployment" NAME) */}}
{{- define "clinalign.liveReplicas" -}}
{{- $root := index . 0 -}}
{{- with lookup "apps/v1" (index . 1) $root.Release.Namespace (index . 2) -}}
replicas: {{ .spec.replicas }}
{{- end -}}
{{- end -}}
