"""How much memory one long prompt takes: `python -m benchmarks.memory [--tokens 4096] [--rows 512] [--limit 8]`.

A small random model, a random dictionary, a budget of rows. Prints the largest size of the process over its whole life,
model and libraries included, and fails if it is above the limit. Edges that stand in a file are counted too, as far as
the system keeps them in memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence

import torch

from benchmarks.peers.cases import Case, make
from circuits.attribution.direct import attribute_directly


def main(arguments: Sequence[str]) -> int:
    """Attribute one long prompt and report; 1 if it took more than was allowed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--rows", type=int, default=512, help="units whose inputs are traced")
    parser.add_argument("--active", type=int, default=20, help="units active at a position, on average, in each layer")
    parser.add_argument("--limit", type=float, default=8, help="GB (2^30 bytes) that are allowed")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    made = make(Case("llama", tokens=options.tokens, active=options.active))
    loaded = _peak()
    start = time.process_time()
    graph = attribute_directly(made.model, made.dictionary, made.tokens, max_features=options.rows)
    spent = time.process_time() - start
    print(
        f"{made.case.name}: {graph.provenance['active']:,} units active, {graph.provenance['traced']:,} traced, "
        f"{len(graph.nodes):,} nodes, {len(graph.source):,} edges; {spent:.0f} s of CPU, "
        f"peak {_peak():.2f} GB, {loaded:.2f} GB before the prompt"
    )
    return int(_peak() > options.limit)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
