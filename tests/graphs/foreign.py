"""Small files of other programs, as they write them: a graph of circuit-tracer's page, and one of its `.pt` files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any


def page_graph() -> dict[str, Any]:
    """Two tokens, three features (of which one stands in layer 0 with the number of a layer), an error, two logits.

    E a --2--> 0_1_1 --3--> 1_7_1 --0.5--> " x"      E b --(-1)--> 1_7_1      error L1 --0.25--> " x"
    0_1_1 --1--> "y"      E a --1--> "y"
    """
    nodes = [
        _node("0_1_1", 2, "0", 1, "cross layer transcoder", "0_1-0", influence=0.4, activation=2.5),
        _node("1_7_1", 43, "1", 1, "cross layer transcoder", "1_7-0", "sevens", influence=0.7, activation=1.5),
        _node("1_90_0", 4276, "1", 0, "cross layer transcoder", "1_90-0", influence=0.95, activation=0.5),
        _node("0_1_0", -1, "1", 0, "mlp reconstruction error", "1_0-0", influence=0.8),
        _node("E_5_0", 0, "E", 0, "embedding", "E_5-0", influence=0.5),
        _node("E_6_1", 1, "E", 1, "embedding", "E_6-1", influence=0.9),
        _node("3_11_1", 11, "3", 1, "logit", "L_11-1", 'Output " x" (p=0.600)', token_prob=0.6, is_target_logit=True),
        _node("3_12_1", 12, "3", 1, "logit", "L_12-1", 'Output "y" (p=0.300)', token_prob=0.3),
    ]
    links = [
        ("E_5_0", "0_1_1", 2.0),
        ("0_1_1", "1_7_1", 3.0),
        ("E_6_1", "1_7_1", -1.0),
        ("E_5_0", "1_90_0", 0.125),
        ("1_7_1", "3_11_1", 0.5),
        ("1_90_0", "3_11_1", 0.0625),
        ("0_1_0", "3_11_1", 0.25),
        ("0_1_1", "3_12_1", 1.0),
        ("E_5_0", "3_12_1", 1.0),
    ]
    return {
        "metadata": {
            "slug": "a-b",
            "scan": "toy-2l",
            "transcoder_list": [],
            "prompt_tokens": ["a", " b"],
            "prompt": "a b",
            "node_threshold": 0.8,
            "schema_version": 1,
            "info": {"creator_name": "someone", "transcoder_set": "some/set"},
        },
        "qParams": {
            "pinnedIds": ["1_7_1", "0_1_0"],
            "supernodes": [["seven", "1_7_1"], ["unknown", "0_1_0"]],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": nodes,
        "links": [{"source": source, "target": target, "weight": weight} for source, target, weight in links],
    }


def _node(
    id: str, feature: int, layer: str, position: int, kind: str, script: str, clerp: str = "", **more: Any
) -> dict[str, Any]:
    return {
        "node_id": id,
        "feature": feature,
        "layer": layer,
        "ctx_idx": position,
        "feature_type": kind,
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": script,
        "clerp": clerp,
        "influence": None,
        "activation": None,
        **more,
    }


def written(path: Path, record: Any) -> Path:
    """The record as a file."""
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def changed(*places: Any, to: Any) -> dict[str, Any]:
    """`page_graph()` with the value at one place replaced."""
    record = copy.deepcopy(page_graph())
    inner: Any = record
    for place in places[:-1]:
        inner = inner[place]
    inner[places[-1]] = to
    return record
