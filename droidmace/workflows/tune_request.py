"""What a tuning run is asked to do, and what of it can be refused without a phone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from droidmace.config import Deployment, ModelConfig, SearchConfig, TuneConfig
from droidmace.errors import ConfigError
from droidmace.results import SearchSummary
from droidmace.workflows.models import ModelFiles, find_model_files
from droidmace.workflows.samples import Samples, load_samples
from droidmace.workflows.workplace import PhoneRequest


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """What to do: which model, on which phone, and where the bundle goes.

    Holds plain values only: it travels to a process of its own when several phones are tuned.
    ``overrides`` are ``TuneConfig`` fields given on the command line.
    """

    phone: PhoneRequest
    out_dir: Path
    overrides: Mapping[str, int] = field(default_factory=dict)
    search: SearchConfig | None = None
    """How parameters are searched for; None: as the deployment file says."""
    pin_governors: bool = True
    """Whether clocks are held steady where the phone permits it."""
    draw: Callable[[SearchSummary, str], str] | None = None
    """Draws a search (its title) as an SVG picture for the bundle."""
    fresh: bool = False
    """Whether a search that was broken off is forgotten instead of gone on with."""
    image_limit: int | None = None

    @property
    def model(self) -> ModelConfig:
        """The model to tune."""
        return self.phone.model

    @property
    def deployment(self) -> Deployment:
        """The file that describes it."""
        return self.phone.deployment

    @property
    def settings(self) -> TuneConfig:
        """How much to measure: the file's figures, then the command line's."""
        return dataclasses.replace(self.deployment.tune, **self.overrides)

    @property
    def search_settings(self) -> SearchConfig:
        """How parameters are searched for."""
        return self.search or self.deployment.search


Cargo = tuple[ModelFiles, Samples]
"""What will travel to a phone."""


def check_request(request: TuneRequest) -> Cargo:
    """Refuse what no phone is needed to refuse; return what will travel.

    Raises ``ConfigError`` and ``FormatError``.
    """
    if "gpu" not in request.model.runtime:
        raise ConfigError(
            f"models.{request.model.name}.runtime is {request.model.runtime}: there are no "
            "OpenCL kernels to tune",
            where=str(request.deployment.path),
            hint="set runtime to gpu, or cpu+gpu, and convert the model again",
        )
    return (
        find_model_files(request.deployment, request.model),
        load_samples(request.deployment, request.model, request.image_limit),
    )
