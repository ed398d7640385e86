# One image for every service of docker-compose.yml.
FROM python:3.11-slim AS build

# Index with torch for CPU. Leave it empty for the default build with CUDA:
#   docker compose build --build-arg PIP_EXTRA_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PATH=/opt/venv/bin:$PATH
RUN python3 -m venv /opt/venv
WORKDIR /build

# Dependencies first, with an empty package: this layer stays cached while only code changes.
COPY constraints.txt pyproject.toml README.md ./
RUN mkdir stock_assets && touch stock_assets/__init__.py && pip install -c constraints.txt .

COPY stock_assets stock_assets
RUN pip install --no-deps --force-reinstall .


FROM python:3.11-slim

RUN groupadd --gid 10001 app \
    && useradd --uid 10001 --gid app --create-home app \
    && install --directory --owner app --group app /app /data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 GIT_PYTHON_REFRESH=quiet

WORKDIR /app
COPY --chown=app:app params.yaml dagster.yaml ./
COPY --chown=app:app deploy/workspace.yaml workspace.yaml

USER app
VOLUME /data
CMD ["stock-assets", "status"]
