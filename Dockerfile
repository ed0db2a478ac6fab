# syntax=docker/dockerfile:1
# An image for every node of a cluster: the head, the workers and the job.
#
#     docker build --build-arg EXTRAS=s3,jobs,fast -t registry.example.com/stillreel:0.1.0 .
#
# It holds no weights: those come from a store or the Hub, into the cache that the nodes share (docs/kubernetes.md).

# Triton compiles SVD's kernels on the GPU node, with a C compiler and Python's headers; PyTorch's wheels bring CUDA's
# libraries. Debian 12 has Python 3.11. For a base with more of CUDA: --build-arg BASE=nvidia/cuda:13.0.2-base-debian12
ARG BASE=debian:12-slim

FROM ${BASE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3.11 python3.11-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3.11 -m venv /opt/stillreel/venv
ENV PATH=/opt/stillreel/venv/bin:$PATH
# The packages change more seldom than the code: their layer is kept.
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir --disable-pip-version-check "$(grep -E '^torch==' /tmp/constraints.txt)"
ARG EXTRAS=s3,jobs
COPY pyproject.toml README.md LICENSE /tmp/source/
COPY actors /tmp/source/actors
COPY pipelines /tmp/source/pipelines
RUN pip install --no-cache-dir --disable-pip-version-check --constraint /tmp/constraints.txt "/tmp/source[${EXTRAS}]"

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev libpython3.11-dev python3.11 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home --home-dir /home/stillreel --shell /bin/bash stillreel \
    && install -d -o stillreel /cache
COPY --from=build /opt/stillreel/venv /opt/stillreel/venv
COPY conf /opt/stillreel/conf
ENV PATH=/opt/stillreel/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/cache/huggingface \
    XDG_CACHE_HOME=/cache
USER 1000
WORKDIR /opt/stillreel
CMD ["stillreel", "--help"]
