"""How values are written: 400M, 3.7 times, seeds 0, 1, 2."""

from typing import Any

import pandas as pd


def short(value: Any) -> str:
    """A value as a person writes it: 16k, 400M, 12.8B, 0.75; a missing one is null."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "null"
    if isinstance(value, str) or pd.api.types.is_bool(value):
        return str(value)
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{suffix}"
    return f"{value:.4g}"


def times(factor: float) -> str:
    """A factor as a person writes it: 3.7, and 1.06 where one digit would say none."""
    return f"{factor:.2f}" if factor < 2 else f"{factor:.1f}" if factor < 1000 else f"{factor:.2g}"


def signed(value: float) -> str:
    """A difference with its sign: +0.9, -12, -145."""
    return f"{value:+.2g}" if abs(value) < 100 else f"{value:+.0f}"
