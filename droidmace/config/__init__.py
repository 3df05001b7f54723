"""MACE's YAML files as checked values: deployment files and device files.

The keys are MACE's own (its ``docs`` and ``tools/python/utils/config_parser.py``) plus one section
of ours, ``droidmace:``. Unknown keys are errors: a typing mistake must not be silently ignored.
Paths in a file are relative to that file.
"""

from droidmace.config.boards import Board, load_boards
from droidmace.config.dataset import CropConfig, DatasetConfig, PreprocessConfig, ResizeConfig
from droidmace.config.deployment import load_deployment
from droidmace.config.gate import GateConfig
from droidmace.config.search import SearchConfig, SearchKind, parse_duration_s
from droidmace.config.validate import ValidateConfig, ValidationGates
from droidmace.config.values import (
    ABIS,
    DEFAULT_THRESHOLDS,
    Deployment,
    ModelConfig,
    TensorSpec,
    TuneConfig,
)

__all__ = [
    "ABIS",
    "DEFAULT_THRESHOLDS",
    "Board",
    "CropConfig",
    "DatasetConfig",
    "Deployment",
    "GateConfig",
    "ModelConfig",
    "PreprocessConfig",
    "ResizeConfig",
    "SearchConfig",
    "SearchKind",
    "TensorSpec",
    "TuneConfig",
    "ValidateConfig",
    "ValidationGates",
    "load_boards",
    "load_deployment",
    "parse_duration_s",
]
