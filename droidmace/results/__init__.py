"""The values that travel: what a step found out, ready to be shown or written.

One module for each kind of result; those of tuning, which most rooms share, are here as well.
Nothing in here computes on a device or prints. Times are in milliseconds unless a name says
otherwise; a failed check is a value, not an exception.
"""

from droidmace.results.tuning import (
    Accuracy,
    DeviceInfo,
    KernelWinner,
    LatencyBlock,
    MaceRunResult,
    OpTime,
    PhaseNote,
    ProgramSources,
    RunTimes,
    SearchPoint,
    SearchSummary,
    Spread,
    TuneFailure,
    TuneResult,
    Verdict,
)

__all__ = [
    "Accuracy",
    "DeviceInfo",
    "KernelWinner",
    "LatencyBlock",
    "MaceRunResult",
    "OpTime",
    "PhaseNote",
    "ProgramSources",
    "RunTimes",
    "SearchPoint",
    "SearchSummary",
    "Spread",
    "TuneFailure",
    "TuneResult",
    "Verdict",
]
