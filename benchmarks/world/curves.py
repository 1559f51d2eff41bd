"""Training curves as an SVG picture."""

from collections.abc import Mapping, Sequence

PANEL, HIGH, LEFT, TOP, GAP = 250, 150, 44, 34, 58
COLOURS = ("#3b6fb6", "#d1702f", "#4b9b5f")
Curve = Sequence[Mapping[str, float]]

PANELS = (
    ("loss", "loss (nats, weighted)"),
    ("two-hop city", "two-hop, cities held out"),
    ("antonyms", "antonyms held out"),
    ("addition", "addition held out"),
    ("greater", "greater-than (probability)"),
    ("interchange donor", "interchange: answer follows the donor"),
)


def picture(curves: Mapping[int | str, Curve]) -> str:
    """One panel for each figure, one line for each seed."""
    columns = 3
    rows = -(-len(PANELS) // columns)
    width, height = columns * (PANEL + GAP) + 8, rows * (HIGH + GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, (key, title) in enumerate(PANELS):
        x, y = LEFT + number % columns * (PANEL + GAP), TOP + number // columns * (HIGH + GAP)
        parts += _panel(x, y, key, title, curves)
    for number, seed in enumerate(curves):
        x = LEFT + number * 100
        parts.append(f'<path d="M{x} {height - 10}h16" stroke="{_colour(number)}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 20}" y="{height - 6}">{seed if isinstance(seed, str) else f"seed {seed}"}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(x: float, y: float, key: str, title: str, curves: Mapping[int | str, Curve]) -> list[str]:
    lines = {seed: [(point["step"], point[key]) for point in curve if key in point] for seed, curve in curves.items()}
    values = [value for line in lines.values() for _, value in line]
    last = max((step for line in lines.values() for step, _ in line), default=1)
    top = max(values, default=1.0) if key == "loss" else 1.0
    parts = [
        f'<text x="{x}" y="{y - 8}" font-weight="bold">{title}</text>',
        f'<path d="M{x} {y}V{y + HIGH}H{x + PANEL}" fill="none" stroke="#999"/>',
        f'<text x="{x - 4}" y="{y + 6}" text-anchor="end">{top:.2g}</text>',
        f'<text x="{x - 4}" y="{y + HIGH}" text-anchor="end">0</text>',
        f'<text x="{x + PANEL}" y="{y + HIGH + 13}" text-anchor="end">{last:.0f} steps</text>',
    ]
    if key != "loss":
        bar = y + HIGH * 0.05
        parts.append(f'<path d="M{x} {bar:.1f}H{x + PANEL}" stroke="#bbb" stroke-dasharray="3 3"/>')
    for number, line in enumerate(lines.values()):
        places = [(x + step / last * PANEL, y + HIGH * (1 - min(value / top, 1))) for step, value in line]
        points = " ".join(f"{right:.1f},{down:.1f}" for right, down in places)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{_colour(number)}" stroke-width="1.6"/>')
    return parts


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
