"""How numbers are written in tables: percent, points, intervals."""

from cifar.metrics.statistics import Interval

NONE = "-"  # where there is no number


def percent(share: float) -> str:
    """Return a share as `80.3 %` is written in a table: 80.3%."""
    return f"{share:.1%}"


def points(difference: float, digits: int = 1) -> str:
    """Return a difference of shares in points, with its sign; +0.0 and never -0.0."""
    rounded = round(difference * 100, digits) + 0.0
    return f"{rounded:+.{digits}f}"


def span(interval: Interval) -> str:
    """Return an interval of a share in percent: `79.5 to 81.1`."""
    low, high = interval
    return f"{low * 100:.1f} to {high * 100:.1f}"


def points_span(interval: Interval | None) -> str:
    """Return an interval of a difference in points: `+5.1 to +6.7`."""
    if interval is None:
        return NONE
    low, high = interval
    return f"{low * 100:+.1f} to {high * 100:+.1f}"


def plus_minus(center: str, interval: Interval | None) -> str:
    """Return a number with half the width of its interval in points, if it has one: `80.3 ± 0.8`."""
    if interval is None:
        return center
    low, high = interval
    return f"{center} ± {(high - low) / 2 * 100:.1f}"


def p_value(value: float | None, digits: int = 1) -> str:
    """Return a p-value, if there is one, with so many significant digits: `0.03`."""
    if value is None:
        return NONE
    return f"{value:.{digits}g}"
