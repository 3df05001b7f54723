"""What is left of a tuning run that never came to its end."""

from __future__ import annotations

from droidmace.errors import InputError
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.tuning.journal import JournalContent


def salvage(content: JournalContent) -> bytes:
    """A parameter file with every winner that the phone's own tuner logged.

    MACE writes its file only when the process ends normally; the log has each winner as it is
    found. Raises ``InputError`` if there is none.
    """
    if not content.winners:
        raise InputError(
            "the journal holds no winner of the phone's own tuner",
            hint="it logs the first one once all candidates of a kernel were tried",
        )
    return TunedParameters.build(content.winners).serialize()
