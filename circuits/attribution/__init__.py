"""METHODS: name -> how a graph is made. One file a method; this table is read top to bottom."""

from circuits.attribution.direct import attribute_directly

METHODS = {
    "direct": attribute_directly,  # feature graphs: direct effects between dictionary units in the frozen model
}
