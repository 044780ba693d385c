"""The models that the Jina API hosts and that are used here, with what each one accepts."""

from __future__ import annotations

from dataclasses import dataclass

from es_latechunk.errors import ModelError, UsageError

V3_TASKS = ("retrieval.passage", "retrieval.query", "text-matching", "classification", "separation")
V4_TASKS = ("retrieval.passage", "retrieval.query", "text-matching", "code.passage", "code.query")


@dataclass(frozen=True, slots=True)
class HostedModel:
    """One hosted model. `context` and `window` are in the model's tokens.

    `context` is what the API takes for one text, `window` what is sent in one request unless the user
    says otherwise. `matryoshka` lists the sizes that `dimensions` may ask for, the full one included.
    """

    name: str
    context: int
    window: int
    dimensions: int
    matryoshka: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    late_chunking: bool = False

    def check_dimensions(self, dimensions: int | None) -> int:
        """The vectors' size: `dimensions`, or the model's own."""
        if dimensions is None:
            return self.dimensions
        sizes = self.matryoshka or (self.dimensions,)
        if dimensions not in sizes:
            raise UsageError(
                f"dimensions: {self.name} was not trained for {dimensions}; use one of {_listed(sizes)}"
            )
        return dimensions

    def check_task(self, task: str | None, default: str) -> str:
        """The task to send: `task`, or `default`; "" for a model that knows no tasks."""
        if not self.tasks:
            if task:
                raise UsageError(f"task {task!r}: {self.name} knows no tasks; leave the task out")
            return ""
        chosen = task or default
        if chosen not in self.tasks:
            raise UsageError(f"task {chosen!r}: not one of {self.name}'s: {_listed(self.tasks)}")
        return chosen

    def check_window(self, window: int | None) -> int:
        """The tokens of one request: `window`, or the model's own."""
        if window is None:
            return self.window
        if not MIN_WINDOW <= window <= self.context:
            raise UsageError(
                f"window: {window} tokens do not fit {self.name}; use {MIN_WINDOW} to {self.context}"
            )
        return window


MIN_WINDOW = 32

HOSTED_MODELS: dict[str, HostedModel] = {
    model.name: model
    for model in (
        HostedModel(
            "jina-embeddings-v3",
            context=8192,
            window=8192,
            dimensions=1024,
            matryoshka=(32, 64, 128, 256, 512, 768, 1024),
            tasks=V3_TASKS,
            late_chunking=True,
        ),
        HostedModel(
            "jina-embeddings-v4",
            context=32768,
            window=8192,  # what v3 and v2 are proven at; --window asks for more
            dimensions=2048,
            matryoshka=(128, 256, 512, 1024, 2048),
            tasks=V4_TASKS,
            late_chunking=True,
        ),
        *(
            HostedModel(f"jina-embeddings-v2-base-{kind}", context=8192, window=8192, dimensions=768)
            for kind in ("en", "de", "es", "zh", "code")
        ),
    )
}


def find_hosted(name: str) -> HostedModel:
    """The table's entry for `name`, without the `jina-api:` in front."""
    if name not in HOSTED_MODELS:
        raise ModelError(f"model jina-api:{name}: not known here; use one of {_listed(tuple(HOSTED_MODELS))}")
    return HOSTED_MODELS[name]


def _listed(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values))
