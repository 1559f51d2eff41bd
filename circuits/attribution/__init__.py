"""METHODS, EDGE_METHODS, PART_METHODS, SEARCHES: name -> how a graph is made. One file a method, read top to bottom."""

from circuits.attribution.acdc import take_edges_out
from circuits.attribution.atp import score_parts_by_gradient
from circuits.attribution.atp_star import score_parts_with_corrections
from circuits.attribution.clean_corrupted import score_at_both_ends
from circuits.attribution.conductance import score_by_conductance
from circuits.attribution.direct import attribute_directly
from circuits.attribution.eap import score_by_gradient
from circuits.attribution.eap_ig import score_between_inputs
from circuits.attribution.eap_ig_activations import score_between_activations
from circuits.attribution.exact_edges import patch_every_edge
from circuits.attribution.exact_parts import patch_every_part
from circuits.attribution.information_flow import score_by_flow
from circuits.attribution.random_scores import draw_scores
from circuits.attribution.relp import score_by_relevance

METHODS = {
    "direct": attribute_directly,  # feature graphs: direct effects between dictionary units in the frozen model
}

# Component circuits: (transformer, pairs, metric, **options) -> a score for every edge, summed over the pairs.
EDGE_METHODS = {
    "eap": score_by_gradient,  # gradients of the clean run
    "eap-ig": score_between_inputs,  # gradients at points between the prompts
    "eap-ig-activations": score_between_activations,  # gradients with one stage at a time between the prompts
    "clean-corrupted": score_at_both_ends,  # gradients of both runs
    "relp": score_by_relevance,  # the rules of relevance propagation on the way back
    "exact": patch_every_edge,  # every edge patched by itself: the truth, slow
    "information-flow": score_by_flow,  # which sources a reader's input is near to
    "random": draw_scores,
}

# The same for heads, MLPs and neurons as wholes: (transformer, pairs, metric, parts, **options) -> a score for each.
PART_METHODS = {
    "atp": score_parts_by_gradient,  # gradients of the clean run
    "atp-star": score_parts_with_corrections,  # the same for saturated patterns and for effects that cancel
    "conductance": score_by_conductance,  # what flows through on the way from one prompt to the other
    "exact-nodes": patch_every_part,  # every part patched by itself: the truth, slow
}

# Edges chosen one after another, without a score that others could be held to: (transformer, all pairs, metric, …).
SEARCHES = {
    "acdc": take_edges_out,  # from the logits back, each edge out that makes less than a threshold of difference
}
