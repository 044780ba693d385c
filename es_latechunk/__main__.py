"""`python -m es_latechunk` is the command line."""

from es_latechunk.cli import main

main(prog_name="es-latechunk")
