"""The hours that claims along time use, and the note if they may mislead. No other module decides it.

If a probe has timed the shape of every run, hours are the probe's: shapes were timed in turns, so whatever slowed the
machine met all arms alike. Otherwise they are the runs' own, with a note if the load differed between arms: on a shared
CPU even processor time grows when neighbours compete for caches and for the other thread of a core, and the arms of a
study that ran one after the other had different neighbours.
"""

from typing import NamedTuple

import pandas as pd

from flipscale.words import joined, times

UNLIKE_LOAD = 1.25
"""Wall time over CPU time of one arm may be this many times another's. Arms that ran side by side are within 1.17 in
the committed studies; those of the icons study, which ran one after the other, are 1.9 apart."""

FEW_ARMS = 4
"""With more arms, only those of the least and the most load are named."""

PROBED = "Hours are those of a probe, which timed the shapes of all arms in turns, and not what the runs took."


class FairHours(NamedTuple):
    """A table whose `gpu_hours` are those that claims go by."""

    rows: pd.DataFrame
    note: str
    """A sentence on them; '' where there is nothing to say."""


def fair_hours(rows: pd.DataFrame, arms: "pd.Series[str]", time: str = "gpu_hours") -> FairHours:
    """The rows with the hours that claims along `time` go by. arms: the arm of each row; '' is the baseline."""
    if time == "gpu_hours" and {"gpu_hours", "gpu_hours_probed"} <= set(rows):
        measured = rows["gpu_hours"].notna()
        if measured.any() and rows["gpu_hours_probed"][measured].notna().all():
            return FairHours(rows.assign(gpu_hours=rows["gpu_hours_probed"].where(measured)), PROBED)
    return FairHours(rows, _unlike_load(rows, arms))


def _unlike_load(rows: pd.DataFrame, arms: "pd.Series[str]") -> str:
    """How the load differed between arms; '' where it did not, or where that is unknown, as on a GPU."""
    if not {"train_seconds", "cpu_seconds", "device"} <= set(rows):
        return ""
    on_cpu = rows[(rows["device"] == "cpu") & (rows["cpu_seconds"] > 0)]
    # With several threads or processes more CPU time is spent than time passes, in all arms alike.
    load = (on_cpu["train_seconds"] / on_cpu["cpu_seconds"]).groupby(arms[on_cpu.index], sort=True).median().dropna()
    if len(load) < 2 or load.max() <= UNLIKE_LOAD * load.min():
        return ""
    many = len(load) > FEW_ARMS
    named = load.sort_values().iloc[[0, -1]] if many else load
    said = joined(f"{times(value)} {f'with {arm}' if arm else 'in the baseline'}" for arm, value in named.items())
    return (
        f"The arms ran under unlike load (wall time over CPU time is {'between ' if many else ''}{said}), so gains and "
        "speed-ups along hours may owe part of it to that; `flipscale probe` times all arms alike."
    )
