"""ONNX to MACE: read and check, simplify, turn into MACE ops, write graph and weights.

``onnx_reader`` → ``simplify`` → ``lower`` (with ``weighted_ops``, ``plain_ops`` and the state they
share, ``conversion``) → ``assemble``; :func:`convert_model` runs all four.
"""

from droidmace.convert.model import ConversionSummary, ConvertedModel, convert_model

__all__ = ["ConversionSummary", "ConvertedModel", "convert_model"]
