"""MACE's schema once more, for Google's protobuf package: the reference to compare with.

Written from ``mace/proto/mace.proto``, independently of ``droidmace.formats``.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

OPTIONAL, REPEATED, PACKED = "optional", "repeated", "packed"
DATA_TYPES = (
    "DT_INVALID", "DT_FLOAT", "DT_UINT8", "DT_HALF", "DT_INT32", "DT_FLOAT16",
    "DT_BFLOAT16", "DT_INT16", "DT_INT8", "DT_UINT16", "DT_UINT32", "DT_BOOL",
)  # fmt: skip

# message -> (label, type, name in mace.proto, number, name in droidmace)
SCHEMA: dict[str, list[tuple[str, str, str, int, str]]] = {
    "ConstTensor": [
        (REPEATED, "int64", "dims", 1, "dims"),
        (OPTIONAL, "DataType", "data_type", 2, "data_type"),
        (PACKED, "float", "float_data", 3, "float_data"),
        (PACKED, "int32", "int32_data", 4, "int32_data"),
        (OPTIONAL, "string", "name", 5, "name"),
        (OPTIONAL, "int64", "offset", 6, "offset"),
        (OPTIONAL, "int64", "data_size", 7, "data_size"),
        (OPTIONAL, "float", "scale", 8, "scale"),
        (OPTIONAL, "int32", "zero_point", 9, "zero_point"),
        (OPTIONAL, "float", "minval", 10, "minval"),
        (OPTIONAL, "float", "maxval", 11, "maxval"),
        (OPTIONAL, "bool", "quantized", 12, "quantized"),
        (OPTIONAL, "uint32", "node_id", 100, "node_id"),
    ],
    "Argument": [
        (OPTIONAL, "string", "name", 1, "name"),
        (OPTIONAL, "float", "f", 2, "f"),
        (OPTIONAL, "int64", "i", 3, "i"),
        (OPTIONAL, "bytes", "s", 4, "s"),
        (REPEATED, "float", "floats", 5, "floats"),
        (REPEATED, "int64", "ints", 6, "ints"),
    ],
    "NodeInput": [
        (OPTIONAL, "int32", "node_id", 1, "node_id"),
        (OPTIONAL, "int32", "output_port", 2, "output_port"),
    ],
    "OutputShape": [(REPEATED, "int64", "dims", 1, "dims")],
    "QuantizeActivationInfo": [
        (OPTIONAL, "float", "scale", 1, "scale"),
        (OPTIONAL, "int32", "zero_point", 2, "zero_point"),
        (OPTIONAL, "float", "minval", 3, "minval"),
        (OPTIONAL, "float", "maxval", 4, "maxval"),
    ],
    "OperatorDef": [
        (REPEATED, "string", "input", 1, "inputs"),
        (REPEATED, "string", "output", 2, "outputs"),
        (OPTIONAL, "string", "name", 3, "name"),
        (OPTIONAL, "string", "type", 4, "type"),
        (OPTIONAL, "int32", "device_type", 5, "device_type"),
        (REPEATED, "Argument", "arg", 6, "args"),
        (REPEATED, "OutputShape", "output_shape", 7, "output_shapes"),
        (REPEATED, "DataType", "output_type", 8, "output_types"),
        (REPEATED, "QuantizeActivationInfo", "quantize_info", 9, "quantize_infos"),
        (REPEATED, "int32", "mem_id", 10, "mem_ids"),
        (OPTIONAL, "uint32", "node_id", 100, "node_id"),
        (OPTIONAL, "uint32", "op_id", 101, "op_id"),
        (OPTIONAL, "uint32", "padding", 102, "padding"),
        (REPEATED, "NodeInput", "node_input", 103, "node_inputs"),
        (REPEATED, "int32", "out_max_byte_size", 104, "out_max_byte_sizes"),
    ],
    "InputOutputInfo": [
        (OPTIONAL, "string", "name", 1, "name"),
        (OPTIONAL, "int32", "node_id", 2, "node_id"),
        (REPEATED, "int32", "dims", 3, "dims"),
        (OPTIONAL, "int32", "max_byte_size", 4, "max_byte_size"),
        (OPTIONAL, "DataType", "data_type", 5, "data_type"),
        (OPTIONAL, "int32", "data_format", 6, "data_format"),
        (OPTIONAL, "float", "scale", 7, "scale"),
        (OPTIONAL, "int32", "zero_point", 8, "zero_point"),
        (OPTIONAL, "string", "alias", 100, "alias"),
    ],
    "NetDef": [
        (REPEATED, "OperatorDef", "op", 1, "ops"),
        (REPEATED, "Argument", "arg", 2, "args"),
        (REPEATED, "ConstTensor", "tensors", 3, "tensors"),
        (OPTIONAL, "DataType", "data_type", 4, "data_type"),
        (OPTIONAL, "string", "name", 5, "name"),
        (OPTIONAL, "int32", "data_offset", 6, "data_offset"),
        (OPTIONAL, "int32", "data_size", 7, "data_size"),
        (OPTIONAL, "int32", "infer_order", 8, "infer_order"),
        (REPEATED, "InputOutputInfo", "input_info", 100, "input_infos"),
        (REPEATED, "InputOutputInfo", "output_info", 101, "output_infos"),
    ],
    "MultiNetDef": [
        (OPTIONAL, "int32", "version_code", 1, "version_code"),
        (OPTIONAL, "string", "name", 2, "name"),
        (REPEATED, "NetDef", "net_def", 3, "nets"),
        (REPEATED, "string", "input_tensor", 100, "input_tensors"),
        (REPEATED, "string", "output_tensor", 101, "output_tensors"),
    ],
    "KVPair": [
        (OPTIONAL, "string", "key", 1, "key"),
        (OPTIONAL, "bytes", "bytes_value", 2, "bytes_value"),
        (REPEATED, "uint32", "uint32s_value", 3, "uint32s_value"),
    ],
    "PairContainer": [(REPEATED, "KVPair", "pairs", 1, "pairs")],
    # Not MACE's: the same pair from a writer that packs.
    "PackedPair": [
        (OPTIONAL, "string", "key", 1, "key"),
        (PACKED, "uint32", "uint32s_value", 3, "uint32s_value"),
    ],
}
DEFAULTS = {
    ("ConstTensor", "data_type"): "DT_FLOAT",
    ("InputOutputInfo", "data_type"): "DT_FLOAT",
    ("InputOutputInfo", "data_format"): "1",
    ("NetDef", "data_type"): "DT_FLOAT",
    ("MultiNetDef", "version_code"): "1",
}


def _build() -> dict[str, type[Any]]:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="mace.proto", package="mace", syntax="proto2")
    enum = file.enum_type.add(name="DataType")
    for number, name in enumerate(DATA_TYPES):
        enum.value.add(name=name, number=number)
    for message_name, rows in SCHEMA.items():
        message = file.message_type.add(name=message_name)
        for label, kind, name, number, _ in rows:
            added = message.field.add(name=name, number=number)
            added.label = field.LABEL_OPTIONAL if label == OPTIONAL else field.LABEL_REPEATED
            if kind in SCHEMA:
                added.type, added.type_name = field.TYPE_MESSAGE, f".mace.{kind}"
            elif kind == "DataType":
                added.type, added.type_name = field.TYPE_ENUM, ".mace.DataType"
            else:
                added.type = getattr(field, f"TYPE_{kind.upper()}")
            if label == PACKED:
                added.options.packed = True
            if (message_name, name) in DEFAULTS:
                added.default_value = DEFAULTS[message_name, name]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"mace.{name}"))
        for name in SCHEMA
    }


REFERENCE: dict[str, type[Any]] = _build()
