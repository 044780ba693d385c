"""The help of a command: its options in groups, and examples that can be pasted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

# Options that several commands share, by group; a command's own options come first, as "Options".
GROUPS: dict[str, tuple[str, ...]] = {
    "Ranking": (
        "num_candidates", "similarity", "oversample", "fusion", "bm25_weight", "rerank", "rank_window_size",
    ),
    "Source": (
        "from_index", "format", "include", "exclude", "encoding", "text_field", "id_field", "max_document_bytes",
    ),
    "Chunks": (
        "chunker", "max_tokens", "pooling", "token_weights", "neighbour_share", "late_window", "pieces",
        "embed_title", "overlap",
    ),
    "Cluster": ("cluster", "ray_address", "encoders", "readers", "encoder_resources"),
    "Elasticsearch": ("quantization", "shards", "replicas", "no_context_fields", "language", "metadata", "mapping"),
    "Limits": ("max_body_bytes", "max_inputs", "max_connections", "max_request_tokens", "max_queue_tokens"),
    "Model": (
        "model", "revision", "window", "dimensions", "document_prefix", "query_prefix", "document_task", "query_task",
        "assume_mean_pooling", "matryoshka", "device", "dtype", "engine", "offline",
    ),
    "Connection": (
        "url", "api_key", "username", "password", "ca_certs", "fingerprint", "insecure", "retry_for",
    ),
    "Output": (
        "highlight", "collapse", "neighbours", "full", "console", "dead_letter", "log_format", "as_json",
    ),
}  # fmt: skip


class Command(click.Command):
    """A command with its options in groups, and its `examples` below them."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = tuple(examples)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group, each in the order in which the command has the options."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], **{name: [] for name in GROUPS}}
        group_of = {option: group for group, options in GROUPS.items() for option in options}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record is not None:
                sections[group_of.get(option.name or "", "Options")].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are: a line that is wrapped cannot be pasted."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
