"""Numbers as people read them: few digits, real minus signs, shares in per cent."""

from math import floor, log10

MINUS = "\N{MINUS SIGN}"
LARGE = 1e7
"""Size from which on numbers are shown with an exponent."""
NARROW = "\N{NARROW NO-BREAK SPACE}"


def shown(value: float | None, unit: str = "") -> str:
    """Return a value as text: shares in per cent, doses with two decimals, others with three digits.

    Args:
        value: the value; None is an en dash.
        unit: the unit of the metric, or "dose".
    """
    if value is None:
        return "–"
    return f"{_digits(value, unit)}{_suffix(unit)}"


def gap(value: float | None, unit: str = "") -> str:
    """Return a difference of two values with its sign; shares in percentage points.

    Args:
        value: the difference; None is an en dash.
        unit: the unit of the metric.
    """
    if value is None:
        return "–"
    points = f"{NARROW}points" if unit == "share" else ""
    return f"{_digits(value, unit, '+', fewer=1)}{points}"


def span(low: float | None, high: float | None, unit: str = "") -> str:
    """Return an interval, its unit once; empty where there is none.

    Args:
        low: the lower end.
        high: the upper end.
        unit: the unit of the metric.
    """
    if low is None or high is None:
        return ""
    return f"{_digits(low, unit)} to {shown(high, unit)}"


def gap_span(low: float | None, high: float | None, unit: str = "") -> str:
    """Return the interval of a difference, its unit once; empty where there is none.

    Args:
        low: the lower end.
        high: the upper end.
        unit: the unit of the metric.
    """
    if low is None or high is None:
        return ""
    return f"{_digits(low, unit, '+', fewer=1)} to {gap(high, unit)}"


def p_value(p: float | None) -> str:
    """p to two or three decimals, never as 0."""
    if p is None:
        return "–"
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _digits(value: float, unit: str, sign: str = "", fewer: int = 0) -> str:
    if unit == "share":
        value *= 100
    size = abs(value)
    if size >= LARGE:
        return f"{value:{sign}.{3 - fewer}g}".replace("-", MINUS)
    if unit == "dose":
        decimals = 2
    elif size >= 0.001 or value == 0:
        decimals = max(0, 2 - fewer - (floor(log10(size)) if value else 0))
    else:
        return f"{value:{sign}.2g}".replace("-", MINUS)
    if unit == "share":
        decimals = min(decimals, 1)
    text = f"{value:{sign}.{decimals}f}"
    if unit != "dose" and "." in text:
        text = text.rstrip("0").rstrip(".")
    if text in ("+0", "-0"):
        return "0"
    return text.replace("-", MINUS)


def _suffix(unit: str) -> str:
    return f"{NARROW}%" if unit == "share" else ""


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun.

    Args:
        number: the number.
        one: the noun in the singular.
        many: the plural; None adds an s.
    """
    return f"{number:,}{NARROW}{one if number == 1 else many or one + 's'}"
