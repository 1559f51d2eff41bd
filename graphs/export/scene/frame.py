"""Where a picture of nodes at their tokens and layers stands below its heading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from graphs.export.layout import Layout
from graphs.export.scene.axes import NAMES
from graphs.export.scene.marks import MARGIN, Text

FLATTEST = 0.4  # of their size, nodes and edges keep at least so much


@dataclass(frozen=True, eq=False)
class Frame:
    """left, top: where the layout begins. width: of the picture, its margins included. scale: of nodes and edges.

    x, y: of each node. [node]
    """

    left: float
    top: float
    width: float
    scale: float
    x: Float[np.ndarray, "node"]
    y: Float[np.ndarray, "node"]


def frame_of(layout: Layout, heading: Sequence[Text], widest: float | None) -> Frame:
    """The layout below a heading, at the top where there is none; a narrow one in the middle.

    widest: see `graphs.export.scene.options.widest_of`.
    """
    left, top = MARGIN + NAMES, heading[-1].y + 18 if heading else MARGIN
    width = max(layout.width + left + MARGIN, min(720.0, widest or 720.0), *(text.box[2] + MARGIN for text in heading))
    left += (width - left - MARGIN - layout.width) / 2 * (layout.width < 500)
    return Frame(left, top, width, max(min(layout.squeezed), FLATTEST), layout.x + left, layout.y + top)
