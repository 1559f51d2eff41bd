"""From a model and a prompt to a causal graph, and back: the graph is checked by ablation in the real model.

Nothing heavy is imported here: each name is fetched from its module when it is first used.
"""

from importlib import import_module

_HOMES = {
    "load_model": "circuits.model",
    "load_transcoders": "circuits.transcoders.loading",
    "trace": "circuits.tracing",
    "attribute": "circuits.attributing",
    "intervene": "circuits.interventions",
    "assay": "circuits.assaying",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'circuits' has no attribute {name!r}; it offers {', '.join(__all__)}")
