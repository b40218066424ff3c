"""The known networks: tables of facts, their key layouts, and their ONNX graphs.

`facts`, `layers` and `backbones` are plain data, `layout` needs numpy, and only `graph` needs onnx.
"""

from __future__ import annotations

from reidkit.networks.backbones import backbone as backbone
from reidkit.networks.facts import ARCHITECTURES as ARCHITECTURES
from reidkit.networks.graph import build_model as build_model
from reidkit.networks.initial import initial_tensors as initial_tensors
from reidkit.networks.layers import Network as Network
from reidkit.networks.layout import check_tensors as check_tensors
from reidkit.networks.layout import recognise as recognise
from reidkit.networks.layout import tensor_shapes as tensor_shapes
from reidkit.networks.layout import used_tensors as used_tensors
