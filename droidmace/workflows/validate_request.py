"""What a validation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from droidmace.config import DatasetConfig, ModelConfig
from droidmace.config.validate import ValidateConfig
from droidmace.results.validation import COMPARING_GATES
from droidmace.workflows.references import ONNXRUNTIME
from droidmace.workflows.workplace import PhoneRequest


@dataclass(frozen=True, slots=True)
class ValidateRequest:
    """Which samples go through which model on which phone, and what they are held against.

    ``dataset``: instead of the one in the deployment file.

    ``against``: a word of :mod:`~droidmace.workflows.references` or the path of stored outputs;
    None for what the deployment file says.
    """

    phone: PhoneRequest
    dataset: DatasetConfig | None
    settings: ValidateConfig
    out_dir: Path
    against: str | None = None
    limit: int | None = None
    allow_plugin: bool = False
    bundle: Path | None = None
    """A bundle whose compiled program and tuned parameters the phone runs with."""
    save_outputs: Path | None = None
    """Where the phone's outputs are kept, for :attr:`against` of another call."""
    fresh: bool = False
    """Whether what an earlier call left is forgotten instead of gone on with."""
    cache: bool = True
    """Whether reference outputs are kept from one call to the next."""

    @property
    def model(self) -> ModelConfig:
        """The model to validate."""
        return self.phone.model

    @property
    def chosen_against(self) -> str:
        """What the command line says, or else the file, or else the original model."""
        said = self.against if self.against is not None else self.settings.against
        return ONNXRUNTIME if said is None else str(said)

    @property
    def comparison_asked_by(self) -> str:
        """What of the command or the file wants outputs compared; empty if only the default does.

        What nobody asked for may be left out where it cannot be had; what somebody did may not.
        """
        if self.against is not None:
            return "--against"
        if self.settings.against is not None:
            return "droidmace.validate.against"
        if self.model.asks_for_similarity:
            return f"validation_threshold of {self.model.name}"
        gates = [name for name in self.settings.gates.wanted if name in COMPARING_GATES]
        return f"the gate {gates[0]}" if gates else ""
