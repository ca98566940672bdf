# The app and all commands (docs/serving.md, "In a container"):
#   docker build -t compression-explorer .
#   docker run --rm -p 127.0.0.1:8501:8501 -v explorer:/data compression-explorer
FROM python:3.12-slim AS build
# The package index that torch comes from: torch's own one for processors leaves CUDA out; empty: the usual index.
ARG TORCH_INDEX=
ARG EXTRAS=app,ray
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
# Before the sources, so that a change of those does not fetch torch again.
RUN python -m venv /opt/explorer \
    && /opt/explorer/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.6" "torchvision>=0.21"
WORKDIR /source
COPY . .
RUN /opt/explorer/bin/pip install ".[$EXTRAS]"

FROM python:3.12-slim
# A C compiler makes quantized training faster; without one the same values are computed (compression/quant/native.py).
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home explorer \
    && install -d -o explorer -g explorer /data
COPY --from=build /opt/explorer /opt/explorer
ENV PATH=/opt/explorer/bin:$PATH \
    COMPRESSION_RUNS=/data/runs \
    COMPRESSION_MODELS=/data/models \
    COMPRESSION_CACHE=/data/downloads
USER 1000
WORKDIR /data
VOLUME /data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/healthz', timeout=4)"]
# Every other command too: docker run … compression-explorer run --model resnet8 …
ENTRYPOINT ["compression-explorer"]
CMD ["app", "--headless", "--address", "0.0.0.0"]
