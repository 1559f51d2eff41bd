"""The commands of the shell: a table of names and what they do. Each is a module here, imported when it is called.

A command's module has `add_arguments(parser)` and `run(arguments) -> int`, the exit code.
"""

COMMANDS = {
    "trace": "trace one prompt: graph, pictures, assay",
    "check": "ablate a stored graph's features in the real model, and judge it",
    "find": "find the heads, MLPs and edges that carry an answer, over pairs of prompts",
    "patch": "put one prompt's values into another's run, place by place: a heat map",
    "heads": "through which attention heads a stored graph's edges came",
    "steer": "set features of a prompt otherwise: what the model says then, and how it goes on",
    "list": "list the graphs in the store",
    "show": "say what a stored graph holds: targets, scores, strongest paths",
    "diff": "hold two stored graphs beside each other: what is in both, only in one, what moves; in words or drawn",
    "query": "ask all graphs of a store at once, in SQL: who has a feature, what they share, an edge's mean weight",
    "draw": "draw stored graphs: svg, png, pdf, dot, html; or export them: json, pt, graphml, gexf, csv",
    "import": "put graphs of other programs into the store: Neuronpedia's JSON, circuit-tracer's .pt",
    "upload": "put a stored graph on a Neuronpedia server",
    "serve": "the store in a browser: graphs to click through, and the real model to ask",
    "bench": "hold methods to each other on tasks: which circuits are faithful, and how surely",
    "train": "train transcoders for a model that has none",
    "models": "list the models that are known, and those on this machine; fetch one",
    "transcoders": "list the transcoder sets that are known, and those on this machine; fetch one",
}
