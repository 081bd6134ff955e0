# Two images: `docker build --target cpu -t glmserve .` and `docker build --target cuda -t glmserve:cuda .`
# See docs/docker.md. Both run on any machine of the architecture they were built on, with or without a GPU.
ARG UBUNTU=24.04
ARG CUDA=12.8.1
# Where the usual hosts cannot be reached: REGISTRY, with a slash at its end, for the base images; UBUNTU_MIRROR and
# PIP_INDEX_URL for packages.
ARG REGISTRY=

FROM ${REGISTRY}ubuntu:${UBUNTU} AS build-cpu
ARG UBUNTU_MIRROR
ARG PIP_INDEX_URL
# The distribution's own compiler and Python are taken as they are: a pinned version is gone with its next update.
# hadolint ignore=DL3008
RUN --mount=type=bind,source=docker,target=/mnt/docker /mnt/docker/apt-mirror.sh \
    && apt-get update \
    && apt-get install -y --no-install-recommends g++ python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements requirements
COPY cmake cmake
COPY docker docker
RUN docker/build.sh /opt/glmserve

FROM ${REGISTRY}nvidia/cuda:${CUDA}-devel-ubuntu${UBUNTU} AS build-cuda
ARG UBUNTU_MIRROR
ARG PIP_INDEX_URL
# Code for Ampere, Ada, Hopper and Blackwell; the driver compiles for the others, from Turing on, at first use.
ARG CUDA_ARCHITECTURES=75-virtual;80-real;86-real;89-real;90-real;120a-real
# hadolint ignore=DL3008
RUN --mount=type=bind,source=docker,target=/mnt/docker /mnt/docker/apt-mirror.sh \
    && apt-get update \
    && apt-get install -y --no-install-recommends g++ python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements requirements
COPY cmake cmake
COPY docker docker
# Without VMM the backend needs no driver library to be loaded, so a machine without a GPU says so and goes on.
RUN docker/build.sh /opt/glmserve \
    "-DGGML_CUDA=ON -DGGML_CUDA_NO_VMM=ON -DGGML_CUDA_NCCL=OFF -DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES}"

# glmserve itself is Python alone: the same for both images, and a change to it rebuilds nothing else.
FROM ${REGISTRY}ubuntu:${UBUNTU} AS app
ARG UBUNTU_MIRROR
ARG PIP_INDEX_URL
# hadolint ignore=DL3008
RUN --mount=type=bind,source=docker,target=/mnt/docker /mnt/docker/apt-mirror.sh \
    && apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY cmake cmake
COPY docker docker
COPY requirements requirements
COPY pyproject.toml README.md ./
COPY compat compat
COPY convert convert
COPY models models
COPY server server
COPY src src
RUN docker/install-app.sh /opt/glmserve

FROM ${REGISTRY}ubuntu:${UBUNTU} AS base-cpu
ARG UBUNTU_MIRROR
# hadolint ignore=DL3008
RUN --mount=type=bind,source=docker,target=/mnt/docker /mnt/docker/apt-mirror.sh \
    && apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home glmserve \
    && install --directory --owner glmserve /var/cache/glmserve

FROM ${REGISTRY}nvidia/cuda:${CUDA}-runtime-ubuntu${UBUNTU} AS base-cuda
ARG UBUNTU_MIRROR
# hadolint ignore=DL3008
RUN --mount=type=bind,source=docker,target=/mnt/docker /mnt/docker/apt-mirror.sh \
    && apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home glmserve \
    && install --directory --owner glmserve /var/cache/glmserve

FROM base-cuda AS cuda
COPY --from=build-cuda /opt/glmserve /opt/glmserve
COPY --from=app /opt/glmserve/app /opt/glmserve/app
ENV PATH=/opt/glmserve/app/bin:$PATH \
    PYTHONPATH=/opt/glmserve/app \
    PYTHONUNBUFFERED=1 \
    GLMSERVE_HOST=0.0.0.0 \
    GLMSERVE_PORT=8000 \
    GLMSERVE_CACHE_DIR=/var/cache/glmserve
USER 10001
VOLUME /var/cache/glmserve
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD ["glmserve-health"]
ENTRYPOINT ["glmserve"]
CMD ["serve"]

# The last target is what `docker build` makes when none is named.
FROM base-cpu AS cpu
COPY --from=build-cpu /opt/glmserve /opt/glmserve
COPY --from=app /opt/glmserve/app /opt/glmserve/app
ENV PATH=/opt/glmserve/app/bin:$PATH \
    PYTHONPATH=/opt/glmserve/app \
    PYTHONUNBUFFERED=1 \
    GLMSERVE_HOST=0.0.0.0 \
    GLMSERVE_PORT=8000 \
    GLMSERVE_CACHE_DIR=/var/cache/glmserve
USER 10001
VOLUME /var/cache/glmserve
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD ["glmserve-health"]
ENTRYPOINT ["glmserve"]
CMD ["serve"]
