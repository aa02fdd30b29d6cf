"""The figures of the acceptance tests, for the table of docs/comfyui.md."""

FIGURES: list[tuple[str, str, float, str]] = []


def note(row: str, what: str, figure: float, remark: str = "") -> None:
    """Keep a figure: a largest difference as a part of the sample's size, or a count."""
    FIGURES.append((row, what, figure, remark))
