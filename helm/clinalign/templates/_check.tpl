{{/* Values that contradict each other, all of them at once, each in a sentence. */}}
{{- define "clinalign.check" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if not $v.gateway.keys.existingSecret -}}
{{- $wrong = append $wrong "gateway.keys.existingSecret is empty: name the Secret with the API keys; the gateway refuses to listen without keys." -}}
{{- end -}}
{{- if and $v.gateway.autoscaling.enabled (gt (int $v.gateway.autoscaling.minReplicas) (int $v.gateway.autoscaling.maxReplicas)) -}}
{{- $wrong = append $wrong "gateway.autoscaling.minReplicas is above maxReplicas." -}}
{{- end -}}
{{- range list "checkSettings" "checkImages" "checkUpstream" "checkModel" "checkVllm" "checkIndex" "checkNetwork" -}}
{{- $wrong = concat $wrong (include (printf "clinalign.%s" .) $ | fromYamlArray) -}}
{{- end -}}
{{- if $v.training.enabled -}}
{{- if not (and $v.training.dataClaim $v.training.outputClaim) -}}
{{- $wrong = append $wrong "training.enabled needs training.dataClaim (questions) and training.outputClaim (checkpoints and the model)." -}}
{{- end -}}
{{- if and (gt (int $v.training.gpus) 1) (not $v.training.accelerate) -}}
{{- $wrong = append $wrong "training.gpus is above 1 without training.accelerate: one process would leave the others idle." -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n- %s" (join "\n- " $wrong)) -}}
{{- end -}}
{{- end -}}

{{/* The gateway's settings that have a value of the chart's own, and files that are nowhere. */}}
{{- define "clinalign.checkSettings" -}}
{{- $gateway := .Values.gateway -}}
{{- $wrong := list -}}
{{- $own := dict "HOST" "networkPolicy.clients" "PORT" "gateway.service.port" "WORKERS" "gateway.workers" "DRAIN_S" "gateway.drainSeconds" "INDEX_DIR" "index.from" "REVISION_DEADLINE_MS" "gateway.deadlineMs" "UPSTREAM_URL" "upstream.url" "UPSTREAM_REPLICAS" "upstream.replicas" "TRACES_ENDPOINT" "traces.endpoint" "TRACES_RATIO" "traces.ratio" -}}
{{- $secret := dict "KEYS" "gateway.keys" "UPSTREAM_API_KEY" "vllm.apiKey or upstream.apiKey" "REDIS_URL" "redis" -}}
{{- range $name, $value := $gateway.settings -}}
{{- $short := trimPrefix "CLINALIGN_" $name -}}
{{- if hasKey $own $short -}}
{{- $wrong = append $wrong (printf "gateway.settings.%s is set by the chart itself: use %s." $name (get $own $short)) -}}
{{- else if hasKey $secret $short -}}
{{- $wrong = append $wrong (printf "gateway.settings.%s is a secret: name a Secret in %s." $name (get $secret $short)) -}}
{{- else if and (has $short (list "CRITIC_TRUST_FILE" "SAFETY_NUMBERS_FILE")) (hasPrefix "/etc/clinalign/" $value) (not $gateway.files.configMap) -}}
{{- $wrong = append $wrong (printf "gateway.settings.%s names a file in /etc/clinalign: name the ConfigMap that has it in gateway.files.configMap." $name) -}}
{{- end -}}
{{- end -}}
{{- range $component := list "gateway" "vllm" -}}
{{- range $label, $value := (index $.Values $component).podLabels -}}
{{- if has $label (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "track") -}}
{{- $wrong = append $wrong (printf "%s.podLabels has %s: the chart sets it, and selects the pods by it." $component $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $wrong -}}
{{- end -}}

{{- define "clinalign.checkImages" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- $used := dict "gateway.image" $v.gateway.image -}}
{{- if $v.vllm.enabled }}{{ $used = set $used "vllm.image" $v.vllm.image }}{{ end -}}
{{- if $v.training.enabled }}{{ $used = set $used "training.image" $v.training.image }}{{ end -}}
{{- range $name, $image := $used -}}
{{- if and (eq $image.tag "latest") (not $image.digest) -}}
{{- $wrong = append $wrong (printf "%s.tag is latest: name a version, so that a restart cannot bring another one." $name) -}}
{{- end -}}
{{- if not (or $v.images.registry $v.images.local (include "clinalign.namesHost" $image)) -}}
{{- $wrong = append $wrong (printf "%s.repository %s names no host, so it would come from Docker Hub: set images.registry, or images.local: true where the nodes have it already." $name $image.repository) -}}
{{- end -}}
{{- end -}}
{{- if and $v.vllm.enabled (not (or $v.vllm.image.tag $v.vllm.image.digest)) -}}
{{- $wrong = append $wrong "vllm.image.tag is empty: name a version of vLLM." -}}
{{- end -}}
{{- toYaml $wrong -}}
{{- end -}}

{{/* vLLM or an outside server, one of them. */}}
{{- define "clinalign.checkUpstream" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if and (include "clinalign.asksVllm" .) $v.upstream.url -}}
{{- $wrong = append $wrong "upstream.url is set while vllm.enabled is true: the gateways ask one or the other. To ask upstream.url and keep vLLM as it is, set upstream.insteadOfVllm." -}}
{{- end -}}
{{- if and (include "clinalign.asksVllm" .) $v.upstream.apiKey.existingSecret -}}
{{- $wrong = append $wrong "upstream.apiKey is set while vllm.enabled is true: the key of the chart's vLLM is vllm.apiKey." -}}
{{- end -}}
{{- if not (or (include "clinalign.asksVllm" .) $v.upstream.url) -}}
{{- $wrong = append $wrong (printf "%s and upstream.url is empty: say where the model is served." ($v.vllm.enabled | ternary "upstream.insteadOfVllm is true" "vllm.enabled is false")) -}}
{{- end -}}
{{- if and (eq $v.upstream.replicas "dns") (contains "," $v.upstream.url) -}}
{{- $wrong = append $wrong "upstream.url names several servers with upstream.replicas dns: give one host name, or replicas listed." -}}
{{- end -}}
{{- toYaml $wrong -}}
{{- end -}}

{{/* Where vLLM has its model from: what belongs to the other source would do nothing. */}}
{{- define "clinalign.checkModel" -}}
{{- $model := .Values.vllm.model -}}
{{- $wrong := list -}}
{{- if .Values.vllm.enabled -}}
{{- if eq $model.source "claim" -}}
{{- if not (and $model.claim.name $model.claim.path) -}}
{{- $wrong = append $wrong "vllm.model.source is claim: name the claim and the model's folder in it (vllm.model.claim.name and .path)." -}}
{{- end -}}
{{- if not $model.servedName -}}
{{- $wrong = append $wrong "vllm.model.source is claim and vllm.model.servedName is empty: give the name that clients ask for; it would change with every checkpoint's folder." -}}
{{- end -}}
{{- range $name := list "revision" "offline" -}}
{{- if get $model $name -}}
{{- $wrong = append $wrong (printf "vllm.model.%s is set while vllm.model.source is claim: it says what comes from the hub, and a claim's version is its path." $name) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- if not $model.id -}}
{{- $wrong = append $wrong "vllm.model.id is empty: name a model on the hub, or set vllm.model.source to claim." -}}
{{- end -}}
{{- if or $model.claim.name $model.claim.path -}}
{{- $wrong = append $wrong "vllm.model.claim is given while vllm.model.source is hub: set source to claim, or leave the claim's name and path empty." -}}
{{- end -}}
{{- if and $model.offline (not $model.cache.persistent) -}}
{{- $wrong = append $wrong "vllm.model.offline needs vllm.model.cache.persistent: without its volume a replica that starts has no model." -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $wrong -}}
{{- end -}}

{{/* How many replicas, and what is passed on to vLLM. */}}
{{- define "clinalign.checkVllm" -}}
{{- $v := .Values -}}
{{- $keda := $v.vllm.autoscaling -}}
{{- $wrong := list -}}
{{- if $v.vllm.enabled -}}
{{- if and $keda.enabled (gt (int $keda.minReplicas) (int $keda.maxReplicas)) -}}
{{- $wrong = append $wrong "vllm.autoscaling.minReplicas is above maxReplicas." -}}
{{- else if and $keda.enabled (or (lt (int $v.vllm.replicas) (int $keda.minReplicas)) (gt (int $v.vllm.replicas) (int $keda.maxReplicas))) -}}
{{- $wrong = append $wrong (printf "vllm.replicas is %d, not from vllm.autoscaling.minReplicas (%d) to maxReplicas (%d): so many run while Prometheus cannot be asked." (int $v.vllm.replicas) (int $keda.minReplicas) (int $keda.maxReplicas)) -}}
{{- end -}}
{{- $own := list "--model" "--host" "--port" "--served-model-name" "--max-model-len" "--block-size" "--tensor-parallel-size" "-tp" "--api-server-count" "-asc" "--revision" "--enable-prefix-caching" "--no-enable-prefix-caching" "--enable-prompt-tokens-details" "--load-format" "--api-key" "--hf-token" "--config" -}}
{{- range $v.vllm.extraArgs -}}
{{- $flag := splitList "=" . | first | replace "_" "-" -}}
{{- if hasPrefix "--trust-remote-code" $flag -}}
{{- $wrong = append $wrong "vllm.extraArgs has --trust-remote-code: it would run code from the model's repository." -}}
{{- else if has $flag $own -}}
{{- $wrong = append $wrong (printf "vllm.extraArgs has %s: the chart sets it, by a value of its own or to keep weights safe and secrets out of arguments." $flag) -}}
{{- end -}}
{{- end -}}
{{- $ownEnv := list "USER" "HOME" "XDG_CACHE_HOME" "VLLM_CACHE_ROOT" "TRITON_CACHE_DIR" "TORCHINDUCTOR_CACHE_DIR" "HF_HOME" "VLLM_NO_USAGE_STATS" "DO_NOT_TRACK" -}}
{{- range $name, $value := $v.vllm.env -}}
{{- if regexMatch "(TOKEN|KEY|SECRET|PASSWORD)$" $name -}}
{{- $wrong = append $wrong (printf "vllm.env.%s looks like a secret: name a Secret in vllm.model.token or vllm.apiKey." $name) -}}
{{- else if has $name (list "HF_HUB_OFFLINE" "TRANSFORMERS_OFFLINE") -}}
{{- $wrong = append $wrong (printf "vllm.env.%s is set by the chart: use vllm.model.offline." $name) -}}
{{- else if has $name $ownEnv -}}
{{- $wrong = append $wrong (printf "vllm.env.%s is set by the chart: it keeps what is written on the volumes that can be written." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $wrong -}}
{{- end -}}

{{- define "clinalign.checkIndex" -}}
{{- $index := .Values.index -}}
{{- $principles := or $index.principles.configMap $index.principles.files -}}
{{- $wrong := list -}}
{{- if and $index.principles.configMap $index.principles.files -}}
{{- $wrong = append $wrong "index.principles has both configMap and files: give one." -}}
{{- end -}}
{{- if and (eq $index.from "configMap") (not $principles) -}}
{{- $wrong = append $wrong "index.from is configMap: give index.principles.configMap or index.principles.files." -}}
{{- end -}}
{{- if and (eq $index.from "claim") (not $index.claim.name) -}}
{{- $wrong = append $wrong "index.from is claim: name it in index.claim.name." -}}
{{- end -}}
{{- if and $index.job.enabled (ne $index.from "claim") -}}
{{- $wrong = append $wrong "index.job.enabled needs index.from claim: the Job has to leave the index on a volume." -}}
{{- end -}}
{{- if and $principles (not (or (eq $index.from "configMap") $index.job.enabled)) -}}
{{- $wrong = append $wrong (printf "index.principles is given and would not be used with index.from %s: set index.from to configMap, or to claim with index.job.enabled." $index.from) -}}
{{- end -}}
{{- toYaml $wrong -}}
{{- end -}}

{{/* What the policies would cut off. */}}
{{- define "clinalign.checkNetwork" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- $wrong = append $wrong "ingress.host is empty: name the host that clients ask." -}}
{{- end -}}
{{- if and $v.ingress.canary.enabled (not $v.ingress.enabled) -}}
{{- $wrong = append $wrong "ingress.canary.enabled needs ingress.enabled." -}}
{{- end -}}
{{- if and $v.ingress.enabled $v.ingress.canary.enabled (not $v.ingress.canary.understood) (not (contains "nginx" $v.ingress.className)) -}}
{{- $wrong = append $wrong (printf "ingress.canary.enabled with ingress.className %s: the weight is in nginx' annotations, which other controllers ignore. Use a weighted route (docs/recipes.md), or set ingress.canary.understood where yours reads them." $v.ingress.className) -}}
{{- end -}}
{{- with index $v.ingress.annotations "nginx.ingress.kubernetes.io/proxy-read-timeout" -}}
{{- if and $v.ingress.enabled (le (int .) (include "clinalign.deadlineSeconds" $ | int)) -}}
{{- $wrong = append $wrong "the Ingress' proxy-read-timeout is not above gateway.deadlineMs: answers would be cut off." -}}
{{- end -}}
{{- end -}}
{{- if $v.networkPolicy.enabled -}}
{{- if and $v.ingress.enabled (not $v.networkPolicy.clients) -}}
{{- $wrong = append $wrong "networkPolicy.clients is empty: the ingress controller could not reach the gateways." -}}
{{- end -}}
{{- if and $v.monitoring.serviceMonitor.enabled (not $v.networkPolicy.prometheus) -}}
{{- $wrong = append $wrong "networkPolicy.prometheus is empty: Prometheus could not reach what the ServiceMonitors name." -}}
{{- end -}}
{{- if not $v.networkPolicy.dns.to -}}
{{- $wrong = append $wrong "networkPolicy.dns.to is empty: no pod could resolve a name." -}}
{{- end -}}
{{- $downloads := or (include "clinalign.vllmDownloads" .) (and $v.training.enabled $v.training.download) -}}
{{- if and $downloads (not $v.networkPolicy.download.to) -}}
{{- $wrong = append $wrong "networkPolicy.download.to is empty: no model could be downloaded; with vllm.model.source claim or vllm.model.offline (and training.download false) none is." -}}
{{- end -}}
{{- if not (or (include "clinalign.asksVllm" .) $v.networkPolicy.upstream.to) -}}
{{- $wrong = append $wrong "networkPolicy.upstream.to is empty: the gateways could not reach upstream.url." -}}
{{- end -}}
{{- if and $v.redis.existingSecret (not $v.networkPolicy.redis.to) -}}
{{- $wrong = append $wrong "networkPolicy.redis.to is empty: the gateways could not reach Redis." -}}
{{- end -}}
{{- if and $v.traces.endpoint (not $v.networkPolicy.traces.to) -}}
{{- $wrong = append $wrong "networkPolicy.traces.to is empty: the gateways could not reach traces.endpoint." -}}
{{- end -}}
{{- end -}}
{{- toYaml $wrong -}}
{{- end -}}
