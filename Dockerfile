# One image for server and devices. Build it with `docker compose build`, which passes the arguments.
FROM python:3.11-slim-bookworm AS build

# Where PyTorch comes from: a package index that has CPU builds; empty for pip's own.
ARG TORCH_INDEX=""
WORKDIR /src
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt pyproject.toml ./
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt torch==2.13.0
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
      >requirements.txt \
    && pip install -c constraints.txt -r requirements.txt \
    && rm -rf /venv/lib/python3.11/site-packages/torch/include /venv/lib/python3.11/site-packages/torch/share
COPY LICENSE README.md ./
COPY motley motley
COPY tasks tasks
COPY helpers/prepare_data.py helpers/
ARG DATA_SPEC
RUN PYTHONPATH=tasks python helpers/prepare_data.py --spec "$DATA_SPEC" --output /data


FROM python:3.11-slim-bookworm

# tc and ip are for the link sidecars.
RUN apt-get update && apt-get install -y --no-install-recommends iproute2 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --home-dir /tmp --no-create-home motley \
    && install -d -o 10001 -g 10001 /state
COPY --from=build /venv /venv
COPY --from=build /data /data
WORKDIR /app
COPY pyproject.toml LICENSE ./
COPY motley motley
COPY client client
COPY server server
COPY tasks tasks
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app:/app/tasks PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp FLWR_HOME=/tmp/flwr FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
RUN python -m compileall -q motley client server tasks
USER 10001:10001
VOLUME /state
CMD ["python", "-m", "client.agent"]
