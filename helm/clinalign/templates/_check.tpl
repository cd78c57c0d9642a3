{{/* Values that contradict each other, all of them at once, each in a sentence. */}}
{{- define "clinalign.check" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if not $v.gateway.keys.existingSecret -}}
{{- $wrong = append $wrong "gateway.keys.existingSecret is empty: name the Secret with the API keys; the gateway refuses to listen without keys." -}}
{{- end -}}
{{- $own := list "HOST" "PORT" "WORKERS" "DRAIN_S" "INDEX_DIR" "REVISION_DEADLINE_MS" "UPSTREAM_URL" "UPSTREAM_REPLICAS" "TRACES_ENDPOINT" "TRACES_RATIO" -}}
{{- range $name, $value := $v.gateway.settings -}}
{{- $short := trimPrefix "CLINALIGN_" $name -}}
{{- if has $short $own -}}
{{- $wrong = append $wrong (printf "gateway.settings.%s is set by the chart itself: use the chart's own value for it." $name) -}}
{{- else if has $short (list "KEYS" "UPSTREAM_API_KEY" "REDIS_URL") -}}
{{- $wrong = append $wrong (printf "gateway.settings.%s is a secret: name a Secret in gateway.keys, upstream.apiKey, vllm.apiKey or redis." $name) -}}
{{- end -}}
{{- end -}}
{{- if and $v.gateway.autoscaling.enabled (gt (int $v.gateway.autoscaling.minReplicas) (int $v.gateway.autoscaling.maxReplicas)) -}}
{{- $wrong = append $wrong "gateway.autoscaling.minReplicas is above maxReplicas." -}}
{{- end -}}
{{- range $name, $image := dict "gateway.image" $v.gateway.image "vllm.image" $v.vllm.image "training.image" $v.training.image -}}
{{- if and (eq $image.tag "latest") (not $image.digest) -}}
{{- $wrong = append $wrong (printf "%s.tag is latest: name a version, so that a restart cannot bring another one." $name) -}}
{{- end -}}
{{- end -}}
{{- if not $v.vllm.image.tag -}}
{{- if not $v.vllm.image.digest -}}
{{- $wrong = append $wrong "vllm.image.tag is empty: name a version of vLLM." -}}
{{- end -}}
{{- end -}}
{{- $wrong = concat $wrong (include "clinalign.checkUpstream" . | fromYamlArray) (include "clinalign.checkIndex" . | fromYamlArray) (include "clinalign.checkNetwork" . | fromYamlArray) -}}
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

{{/* vLLM or an outside server, one of them. */}}
{{- define "clinalign.checkUpstream" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if and $v.vllm.enabled $v.upstream.url -}}
{{- $wrong = append $wrong "upstream.url is set while vllm.enabled is true: the gateways ask one or the other." -}}
{{- end -}}
{{- if not (or $v.vllm.enabled $v.upstream.url) -}}
{{- $wrong = append $wrong "vllm.enabled is false and upstream.url is empty: say where the model is served." -}}
{{- end -}}
{{- if and (eq $v.upstream.replicas "dns") (contains "," $v.upstream.url) -}}
{{- $wrong = append $wrong "upstream.url names several servers with upstream.replicas dns: give one host name, or replicas listed." -}}
{{- end -}}
{{- if $v.vllm.enabled -}}
{{- if $v.upstream.apiKey.existingSecret -}}
{{- $wrong = append $wrong "upstream.apiKey is set while vllm.enabled is true: the key of the chart's vLLM is vllm.apiKey." -}}
{{- end -}}
{{- if and (eq $v.vllm.model.source "claim") (not (and $v.vllm.model.claim.name $v.vllm.model.claim.path)) -}}
{{- $wrong = append $wrong "vllm.model.source is claim: name the claim and the model's folder in it (vllm.model.claim.name and .path)." -}}
{{- end -}}
{{- if and (eq $v.vllm.model.source "hub") (not $v.vllm.model.id) -}}
{{- $wrong = append $wrong "vllm.model.id is empty: name a model on the hub, or set vllm.model.source to claim." -}}
{{- end -}}
{{- if and $v.vllm.autoscaling.enabled (gt (int $v.vllm.autoscaling.minReplicas) (int $v.vllm.autoscaling.maxReplicas)) -}}
{{- $wrong = append $wrong "vllm.autoscaling.minReplicas is above maxReplicas." -}}
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
{{- $ownEnv := list "USER" "HOME" "XDG_CACHE_HOME" "VLLM_CACHE_ROOT" "TRITON_CACHE_DIR" "TORCHINDUCTOR_CACHE_DIR" "HF_HOME" "HF_HUB_OFFLINE" "TRANSFORMERS_OFFLINE" "VLLM_NO_USAGE_STATS" "DO_NOT_TRACK" -}}
{{- range $name, $value := $v.vllm.env -}}
{{- if regexMatch "(TOKEN|KEY|SECRET|PASSWORD)$" $name -}}
{{- $wrong = append $wrong (printf "vllm.env.%s looks like a secret: name a Secret in vllm.model.token or vllm.apiKey." $name) -}}
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
{{- if not $v.networkPolicy.dns -}}
{{- $wrong = append $wrong "networkPolicy.dns is empty: no pod could resolve a name." -}}
{{- end -}}
{{- $downloads := or (and $v.vllm.enabled (eq $v.vllm.model.source "hub")) (and $v.training.enabled $v.training.download) -}}
{{- if and $downloads (not $v.networkPolicy.download.to) -}}
{{- $wrong = append $wrong "networkPolicy.download.to is empty: no model could be downloaded; with vllm.model.source claim (and training.download false) none is." -}}
{{- end -}}
{{- if and (not $v.vllm.enabled) (not $v.networkPolicy.upstream.to) -}}
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
