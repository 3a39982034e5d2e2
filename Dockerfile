# guardproxy's image: `docker build -t guardproxy .`
# The base is pinned by tag here; for reproducible builds pin its digest too: --build-arg PYTHON=python:3.12-slim-bookworm@sha256:…
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.lock ./
COPY deploy/requirements-build.lock deploy/
# Two environments: what builds the package stays behind, the other one has not even pip.
RUN python -m venv /build/tools \
 && /build/tools/bin/pip install --only-binary :all: --require-hashes -r deploy/requirements-build.lock \
 && python -m venv --without-pip /opt/guardproxy \
 && /build/tools/bin/pip --python /opt/guardproxy/bin/python install --no-deps --only-binary :all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY guardproxy guardproxy
COPY policies policies
RUN /build/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /build/tools/bin/pip --python /opt/guardproxy/bin/python install --no-deps --no-index dist/*.whl \
 && mkdir -p state/audit

FROM ${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="guardproxy" \
      org.opencontainers.image.description="Guardrail proxy for vision-language models: OpenAI-compatible, in front of vLLM" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-4.0"
COPY --from=build /opt/guardproxy /opt/guardproxy
COPY policies /etc/guardproxy/policies
# Only that a volume for the audit record belongs to the user; without one nothing is written there.
COPY --from=build --chown=10001:10001 /build/state /var/lib/guardproxy
ENV PATH=/opt/guardproxy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GUARDPROXY_HOST=0.0.0.0 \
    GUARDPROXY_PORT=8080 \
    GUARDPROXY_ADMIN_HOST=0.0.0.0 \
    GUARDPROXY_ADMIN_PORT=8081 \
    GUARDPROXY_POLICIES=/etc/guardproxy/policies
# Bound to every address of the container, so it refuses to start without client keys (GUARDPROXY_KEYS).
# The root may be read-only: with several workers /tmp is written (their counters), and the audit record if you want one.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['GUARDPROXY_ADMIN_PORT'] + '/livez', timeout=3)"]
ENTRYPOINT ["guardproxy"]
CMD ["serve"]
