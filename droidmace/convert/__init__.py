"""ONNX to MACE: read and check, simplify, turn into MACE ops, write graph and weights.

``onnx_reader`` (with ``onnx_fold`` and ``borders``) → ``passes`` → ``lower`` (with ``lowering``,
``layout`` and the state they share, ``conversion``) → ``assemble``; :func:`convert_model` runs all.
"""

from droidmace.convert.model import ConversionSummary, ConvertedModel, convert_model

__all__ = ["ConversionSummary", "ConvertedModel", "convert_model"]
