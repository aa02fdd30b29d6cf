"""How the table and the figure of a trace write the numbers of several images."""

from collections.abc import Sequence


def span(values: Sequence[float | None], none: str = "-") -> str:
    """The smallest and the largest of some numbers.

    Args:
        values: One number for each image; None where there is none.
        none: What is written if there are no numbers at all.

    Returns:
        Both with four digits, or one if they are written alike.

    Examples:
        >>> span((7.5, 5.0, None))
        '5 to 7.5'
    """
    numbers = [value for value in values if value is not None]
    if not numbers:
        return none
    low, high = f"{min(numbers):.4g}", f"{max(numbers):.4g}"
    return low if low == high else f"{low} to {high}"


def scales(w: Sequence[float | None], ranges: Sequence[tuple[float, float] | None], none: str = "-") -> str:
    """The scales of the images; where they are maps their means, and in brackets the smallest and the largest.

    Args:
        w: The scale of each image.
        ranges: The smallest and the largest scale in each image; None where it is one number.
        none: As in `span`.

    Returns:
        The text.

    Examples:
        >>> scales((4.5, 4.5), ((1.0, 8.0), None))
        '4.5 (1 to 8)'
    """
    ends = [end for pair in ranges if pair for end in pair]
    return span(w, none) + (f" ({span(ends)})" if ends else "")
