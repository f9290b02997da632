# The image for a machine that has Docker and nothing else: `docker build -t turing_test_service .`
# With Python and make there, `make image` builds the same image with `bentoml containerize`.

# Another base, from a company's mirror for example: --build-arg BASE_IMAGE=mirror.example/python:3.11-slim.
# The only place that names it: the Bento, make and Compose take it from here.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /project
COPY requirements.txt requirements-dev.txt ./
# BentoML installs with uv, too, and needs it for `bentoml build`; its version and hashes are those of development.
RUN sed -n '/^uv==/,/# via/p' requirements-dev.txt > /tmp/uv.txt && \
    python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/uv.txt && \
    uv venv --python python --no-python-downloads /app/.venv && \
    VIRTUAL_ENV=/app/.venv uv pip install --no-cache --compile-bytecode --no-build --require-hashes -r requirements.txt
COPY . ./
ARG VERSION=dev
RUN BENTOML_HOME=/bentoml BENTOML_DO_NOT_TRACK=True /app/.venv/bin/bentoml build --version "${VERSION}" && \
    mv "/bentoml/bentos/turing_test_service/${VERSION}" /bento && \
    chmod +x /bento/env/docker/entrypoint.sh

FROM ${BASE_IMAGE}
# As in BentoML's images: the user, the paths and the variables.
ENV LANG=C.UTF-8 LC_ALL=C.UTF-8 PYTHONIOENCODING=UTF-8 PYTHONUNBUFFERED=1 \
    BENTO_PATH=/home/bentoml/bento BENTOML_HF_CACHE_DIR=/home/bentoml/bento/hf-models \
    BENTOML_CONTAINERIZED=true BENTOML_DO_NOT_TRACK=True BENTOML_HOME=/bentoml HISTORY_FOLDER=/history \
    PYTHONPATH=/home/bentoml/bento/src UV_COMPILE_BYTECODE=1 UV_NO_PROGRESS=1 VIRTUAL_ENV=/app/.venv PATH=/app/.venv/bin:${PATH}
RUN groupadd -g 1034 bentoml && useradd -m -u 1034 -g 1034 -r bentoml && \
    install -d -o bentoml -g 0 -m 2775 /history /bentoml && \
    install -d -o bentoml -g 0 -m 2775 /bentoml/bentos /bentoml/envs /bentoml/models /bentoml/tmp
WORKDIR ${BENTO_PATH}
COPY --from=build /app/.venv /app/.venv
COPY --from=build --chown=bentoml:bentoml /bento ./
USER bentoml
ENTRYPOINT ["/home/bentoml/bento/env/docker/entrypoint.sh"]

ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="turing_test_service" \
    org.opencontainers.image.description="Tells people and bots apart by their chat" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.source="${SOURCE}" \
    org.opencontainers.image.licenses="Apache-2.0"
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"PORT\") or 8000}/readyz', timeout=4)"]
