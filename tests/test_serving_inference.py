"""The Open Inference Protocol, with Triton's own client and by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.datasets.drawn import draw_crops
from reidkit.serving import _tensors
from reidkit.serving._inference import HEADER_LENGTH
from reidkit.serving._load import BatchLimits
from tests.pictures import SMALL
from tests.serving_app import SIZE, Served, serving

COUNT = 3
CROPS = np.ascontiguousarray(draw_crops(COUNT, height=SMALL.height, width=SMALL.width, seed=0))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("inference")
    with serving(folder, batch=BatchLimits(queue=8)) as found:
        yield found


@pytest.fixture(scope="module")
def tensors(served: Served) -> NDArray[np.float32]:
    contract = served.service.model.contract
    batch = preprocess.empty_batch(COUNT, contract)
    for row, pixels in zip(batch, resized(served), strict=True):
        preprocess.fill(pixels, contract, row)
    return batch.astype(np.float32)


def resized(served: Served) -> NDArray[np.uint8]:
    contract = served.service.model.contract
    return np.stack([preprocess.resize(crop, contract) for crop in CROPS])


@pytest.fixture(scope="module")
def vectors(served: Served, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
    return served.service.model.embed(tensors)


def name_of(served: Served) -> str:
    return served.service.model.spec.name


def infer(served: Served, body: Any, **more: Any) -> Any:
    path = f"/v2/models/{name_of(served)}/infer"
    return served.ask("POST", path, role="search", content=json.dumps(body), **more)


def entry(array: NDArray[Any], name: str = "pixels", datatype: str = "UINT8") -> dict[str, Any]:
    return {
        "name": name,
        "datatype": datatype,
        "shape": list(array.shape),
        "data": array.ravel().tolist(),
    }


def test_tritons_client_finds_the_model(served: Served) -> None:
    headers = served.as_role("search")
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(name_of(served), headers=headers)
        assert client.is_model_ready(name_of(served), "1", headers=headers)
        assert not client.is_model_ready("another", headers=headers)
        assert "binary_tensor_data" in client.get_server_metadata(headers=headers)["extensions"]
        model = client.get_model_metadata(name_of(served), headers=headers)
    contract = served.service.model.contract
    shape = [-1, 3, contract.height, contract.width]
    assert model["inputs"] == [{"name": "image", "datatype": "FP32", "shape": shape}]
    assert model["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, SIZE]}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("name", ["image", "pixels"])
def test_tritons_client_gets_the_models_vectors(
    served: Served,
    tensors: NDArray[np.float32],
    vectors: NDArray[np.float32],
    binary_in: bool,
    binary_out: bool,
    name: str,
) -> None:
    data = tensors if name == "image" else resized(served)
    asked = triton.InferInput(name, list(data.shape), "FP32" if name == "image" else "UINT8")
    asked.set_data_from_numpy(data, binary_data=binary_in)
    wanted = triton.InferRequestedOutput("embedding", binary_data=binary_out)
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        answer = client.infer(
            name_of(served),
            [asked],
            model_version="1",
            outputs=[wanted],
            request_id="number 7",
            headers=served.as_role("search"),
        )
    assert answer.get_response()["id"] == "number 7"
    assert answer.get_response()["model_name"] == name_of(served)
    assert np.array_equal(answer.as_numpy("embedding"), vectors)


def test_tritons_client_says_our_errors(served: Served) -> None:
    asked = triton.InferInput("image", [1, 1], "FP32")
    asked.set_data_from_numpy(np.zeros((1, 1), np.float32))
    with (
        triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client,
        pytest.raises(triton.InferenceServerException, match="must have the shape"),
    ):
        client.infer(name_of(served), [asked], headers=served.as_role("search"))


def test_json_without_outputs_is_answered_in_json(
    served: Served, vectors: NDArray[np.float32]
) -> None:
    answer = infer(served, {"inputs": [entry(resized(served))]})
    assert answer.status_code == 200
    (output,) = answer.json()["outputs"]
    assert output["shape"] == [COUNT, SIZE]
    assert np.array_equal(np.array(output["data"], np.float32).reshape(COUNT, SIZE), vectors)
    assert "id" not in answer.json()
    nested = {**entry(resized(served)), "data": resized(served).tolist()}
    assert infer(served, {"inputs": [nested]}).json() == answer.json()


def test_the_whole_request_may_ask_for_binary_output(
    served: Served, vectors: NDArray[np.float32]
) -> None:
    body = {"inputs": [entry(resized(served))], "parameters": {"binary_data_output": True}}
    answer = infer(served, body)
    length = int(answer.headers[HEADER_LENGTH])
    assert json.loads(answer.content[:length])["outputs"][0]["parameters"] == {
        "binary_data_size": vectors.nbytes
    }
    assert answer.content[length:] == vectors.tobytes()
    body["outputs"] = [{"name": "embedding", "parameters": {"binary_data": False}}]
    assert HEADER_LENGTH not in infer(served, body).headers


PICTURE = np.zeros((1, SMALL.height, SMALL.width, 3), np.uint8)
GOOD = entry(PICTURE)
TENSOR = entry(np.zeros((1, 3, SMALL.height, SMALL.width)), "image", "FP32")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "no JSON object"),
        ({}, "list of one tensor"),
        ({"inputs": []}, "list of one tensor"),
        ({"inputs": [GOOD, GOOD]}, "list of one tensor"),
        ({"inputs": ["image"]}, "list of one tensor"),
        ({"inputs": [{**GOOD, "name": "nobody"}]}, "none of image, pixels"),
        ({"inputs": [{**GOOD, "datatype": "FP32"}]}, "datatype UINT8"),
        ({"inputs": [{**GOOD, "shape": [1, 2, 3]}]}, "must have the shape"),
        ({"inputs": [{**GOOD, "shape": [0, *PICTURE.shape[1:]]}]}, "must have the shape"),
        ({"inputs": [{**GOOD, "shape": [True, *PICTURE.shape[1:]]}]}, "must have the shape"),
        ({"inputs": [{**GOOD, "shape": [10**12, *PICTURE.shape[1:]]}]}, "must have the shape"),
        ({"inputs": [{**GOOD, "shape": None}]}, "must have the shape"),
        ({"inputs": [{**GOOD, "data": [0]}]}, "has 1 numbers"),
        ({"inputs": [{**GOOD, "data": [[0], [0, 1]]}]}, "rows of one length"),
        ({"inputs": [{**GOOD, "data": ["a"]}]}, "no whole numbers"),
        ({"inputs": [{**GOOD, "data": [10**400]}]}, "no whole numbers"),
        ({"inputs": [{**GOOD, "data": [256] * PICTURE.size}]}, "0 to 255"),
        ({"inputs": [{**GOOD, "data": [-1] * PICTURE.size}]}, "0 to 255"),
        ({"inputs": [{**GOOD, "data": {}}]}, "no list of data"),
        ({"inputs": [{**TENSOR, "data": [1e300] * PICTURE.size}]}, "NaN or infinity"),
        ({"inputs": [{**TENSOR, "data": [float("nan")] * PICTURE.size}]}, "NaN or infinity"),
        ({"inputs": [{**GOOD, "parameters": {"binary_data_size": 4}}]}, "binary_data_size"),
        ({"inputs": [{**GOOD, "parameters": 1}]}, "no JSON object"),
        ({"inputs": [{**GOOD, "parameters": {"shared_memory_region": "x"}}]}, "not supported"),
        ({"inputs": [GOOD], "id": 7}, "id is no text"),
        ({"inputs": [GOOD], "outputs": [{"name": "logits"}]}, "only output is embedding"),
        ({"inputs": [GOOD], "outputs": "embedding"}, "list of tensors"),
        (
            {
                "inputs": [GOOD],
                "outputs": [{"name": "embedding", "parameters": {"binary_data": 1}}],
            },
            "neither true nor false",
        ),
        ({"inputs": [entry(np.zeros((9, *PICTURE.shape[1:]), np.uint8))]}, "at most 8"),
    ],
)
def test_bad_requests_are_refused(served: Served, body: Any, message: str) -> None:
    answer = infer(served, body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_bodies_that_are_no_requests(served: Served) -> None:
    path = f"/v2/models/{name_of(served)}/infer"
    for content in (b"", b"{", b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"):
        answer = served.ask("POST", path, content=content)
        assert (answer.status_code, answer.json().keys()) == (400, {"error"})
    header = json.dumps({"inputs": [{**GOOD, "parameters": {"binary_data_size": PICTURE.nbytes}}]})
    for length in ("x", "-1", "99999999", "9" * 30):
        answer = served.ask("POST", path, content=header, headers={HEADER_LENGTH: length})
        assert answer.status_code == 400
        assert HEADER_LENGTH in answer.json()["error"]
    refused = served.ask("POST", path, content=b"x", headers={"Content-Encoding": "gzip"})
    assert (refused.status_code, refused.json().keys()) == (415, {"error"})


def test_sizes_are_counted_while_reading(served: Served) -> None:
    path = f"/v2/models/{name_of(served)}/infer"
    piece = b" " * 2**20

    def endless() -> Iterator[bytes]:
        for _ in range(served.service.limits.body_bytes // len(piece) + 1):
            yield piece

    answer = served.ask("POST", path, content=endless())
    assert (answer.status_code, answer.json().keys()) == (413, {"error"})
    assert served.service.bodies.taken == 0
    assert served.service.decoded.taken == 0


def test_unknown_models_and_versions(served: Served) -> None:
    for path in ("/v2/models/nobody", f"/v2/models/{name_of(served)}/versions/2"):
        for ask in (("GET", path), ("GET", f"{path}/ready"), ("POST", f"{path}/infer")):
            answer = served.ask(*ask)
            assert answer.status_code == 404
            assert "there is no such" in answer.json()["error"]


def test_only_health_is_open(served: Served) -> None:
    model = f"/v2/models/{name_of(served)}"
    assert served.client.get("/v2/health/live").json() == {"live": True}
    assert served.client.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2", model, f"{model}/ready", f"{model}/versions/1"):
        assert served.client.get(path).status_code == 401
        assert served.ask("GET", path, role="enrol").status_code == 403
        assert served.ask("GET", path, role="search").status_code == 200
    assert served.client.post(f"{model}/infer", content=b"{}").status_code == 401
    assert served.ask("POST", f"{model}/infer", role="erase").status_code == 403


@given(data=st.binary(max_size=200), length=st.none() | st.text(max_size=12))
def test_no_bytes_are_more_than_a_tensor_error(data: bytes, length: str | None) -> None:
    with pytest.raises(_tensors.TensorError):
        _tensors.parse_request(*_tensors.split_body(data, length), SMALL, "tensor")


@given(
    rows=st.integers(1, 3),
    takes=st.sampled_from(["tensor", "pixels"]),
    name=st.sampled_from(["image", "pixels"]),
    binary=st.booleans(),
    seed=st.integers(0, 99),
)
def test_json_and_binary_say_the_same(
    rows: int, takes: Any, name: str, binary: bool, seed: int
) -> None:
    spec = _tensors.describe_inputs(SMALL, takes)[name]
    random = np.random.default_rng(seed)
    array = random.integers(0, 256, (rows, *spec.shape[1:])).astype(np.uint8)
    values = array.astype(np.float32) if spec.datatype == "FP32" else array
    fields = entry(values, name, spec.datatype)
    data = b""
    if binary:
        data = values.tobytes()
        fields = {**fields, "parameters": {"binary_data_size": len(data)}}
        del fields["data"]
    asked = _tensors.parse_request(json.dumps({"inputs": [fields]}).encode(), data, SMALL, takes)
    expected = preprocess.empty_batch(rows, SMALL, takes)
    for out, row in zip(expected, values, strict=True):
        if spec.datatype == "FP32":
            out[:] = row
        else:
            preprocess.fill(row.astype(np.uint8), SMALL, out, takes=takes)
    assert asked.inputs.dtype == expected.dtype
    assert np.array_equal(asked.inputs, expected)
