"""Networks into verified model packages.

They come from a checkpoint, an ONNX file, an OpenVINO IR, or a torch module.

A package appears only after its file was run and agreed with itself and with where it came from.
"""

from __future__ import annotations

from reidkit.exporting._checkpoint import export_configured_package as export_configured_package
from reidkit.exporting._checkpoint import export_package as export_package
from reidkit.exporting._foreign import package_onnx as package_onnx
from reidkit.exporting._graph_interface import read_interface as read_interface
from reidkit.exporting._module import export_module as export_module
from reidkit.exporting._onnx_file import OnnxExport as OnnxExport
from reidkit.exporting._onnx_file import OnnxOptions as OnnxOptions
from reidkit.exporting._onnx_file import export_configured_onnx as export_configured_onnx
from reidkit.exporting._onnx_file import export_onnx as export_onnx
from reidkit.exporting._openvino import package_openvino as package_openvino
from reidkit.exporting._writing import sha256_tensors as sha256_tensors
