# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import io
import json
import os
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from predictions import AFFINE, SHAPE, maps, write_raster, write_volume
from starlette.testclient import TestClient

from monai_stochseg.explore.prediction_folder import PredictionFolder
from monai_stochseg.explore.server import make_app
from monai_stochseg.explore.session import Session

HOST = "127.0.0.1:8765"


def client(folder, **options) -> TestClient:
    app = make_app(Session(PredictionFolder(folder), **options), [HOST, "localhost:8765"])
    found = TestClient(app, base_url=f"http://{HOST}")
    found.get("/api/cases")
    return found


def nifti(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(content)


def raw(response, shape=SHAPE) -> np.ndarray:
    return np.frombuffer(response.content, np.uint8).reshape(shape, order="F")


def test_the_page_and_its_files_are_served(tmp_path) -> None:
    asked = client(write_volume(tmp_path))
    page = asked.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    for name in ("main.js", "app.css", "niivue.umd.js"):
        assert asked.get(f"/static/{name}").status_code == 200, name
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"


def turned(values: np.ndarray) -> np.ndarray:
    """To the right and the front: the first two axes of the files run to the left and the back."""
    return values[::-1, ::-1]


def test_a_volume_is_served_turned_as_the_page_draws_it(tmp_path) -> None:
    asked, found = client(write_volume(tmp_path)), {name: turned(each) for name, each in maps().items()}
    found |= {name: np.stack([turned(each) for each in maps()[name]]) for name in ("samples", "image")}
    assert asked.get("/api/cases").json()["cases"] == [{"id": 0, "name": "case_1"}]
    case = asked.get("/api/cases/0").json()
    assert case["shape"] == list(SHAPE)
    assert case["edit"] is None
    assert "--config_file" in case["edit_message"]
    image = nifti(asked.get("/api/cases/0/image/1.nii").content)
    np.testing.assert_array_equal(np.asarray(image.dataobj), found["image"][1])
    np.testing.assert_allclose(image.affine.diagonal(), [1, 2, 3, 1])
    for layer, expected in (
        ("answer", found["mode"]),
        ("sample-2", found["samples"][2]),
        ("reader-1", 0 * found["mode"]),
    ):
        np.testing.assert_array_equal(raw(asked.get(f"/api/cases/0/map/{layer}.raw")), expected)
        np.testing.assert_array_equal(
            np.asarray(nifti(asked.get(f"/api/cases/0/map/{layer}.nii").content).dataobj), expected
        )
    entropy = np.asarray(nifti(asked.get("/api/cases/0/map/entropy.nii").content).dataobj)
    np.testing.assert_allclose(entropy, found["mode"] * np.float32(0.3))


def test_an_exported_map_lies_on_the_grid_of_the_image(tmp_path) -> None:
    """Header codes and units are the prediction's."""
    write_volume(tmp_path)
    source = nib.load(tmp_path / "case_1_mode.nii.gz")
    header = source.header.copy()
    header.set_xyzt_units("mm", "sec")
    image = nib.Nifti1Image(np.asarray(source.dataobj), AFFINE, header)
    image.set_sform(AFFINE, 4)
    nib.save(image, tmp_path / "case_1_mode.nii.gz")
    answer = client(tmp_path).get("/api/cases/0/export/sample-3")
    assert answer.headers["content-disposition"] == 'attachment; filename="case_1_sample_4.nii.gz"'
    exported = nifti(gzip.decompress(answer.content))
    np.testing.assert_array_equal(np.asarray(exported.dataobj), maps()["samples"][3])
    np.testing.assert_array_equal(exported.affine, AFFINE)
    assert int(exported.header["sform_code"]) == 4
    assert exported.header.get_xyzt_units() == ("mm", "sec")
    assert exported.get_data_dtype() == np.uint8


def test_a_picture_stands_upright_and_is_exported_as_png(tmp_path) -> None:
    asked, found = client(write_raster(tmp_path)), maps((12, 10))
    case = asked.get("/api/cases/0").json()
    assert case["channels"] == ["red", "green", "blue", "colour"]
    # to the right: columns; up: rows from the last
    np.testing.assert_array_equal(
        raw(asked.get("/api/cases/0/map/sample-2.raw"), (10, 12)), found["samples"][2].T[:, ::-1]
    )
    x, y, z = case["focus"]
    drawn = [sample.T[:, ::-1][x, y] for sample in found["samples"]]
    assert len(set(drawn)) == 2
    assert z == 0
    colour = nifti(asked.get("/api/cases/0/image/3.nii").content)
    values = np.asarray(colour.dataobj)
    assert values.dtype.names == ("R", "G", "B")
    assert values[0, 11, 0].tolist() == (255, 255, 255)
    assert values[3, 3, 0].tolist() == (10, 20, 30)
    answer = asked.get("/api/cases/0/export/sample-2")
    assert answer.headers["content-disposition"].endswith('.png"')
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), found["samples"][2])


@pytest.mark.parametrize(
    "path",
    [
        "/static/../command.py",
        "/static/%2e%2e/command.py",
        "/static/..%2fcommand.py",
        "/static//etc/passwd",
        "/static/%2Fetc%2Fpasswd",
        "/../../etc/passwd",
        "/api/cases/0/map/..%2f..%2fsecret.nii",
        "/api/cases/0/map//etc/passwd.nii",
        "/api/cases/0/export/..%2fsecret",
        "/api/cases/0/image/..%2fsecret.nii",
        "/api/cases/-1",
        "/api/cases/99",
        "/api/cases/..",
        "/api/cases/secret",
        f"/api/cases/{'9' * 5000}",
        "/api/cases/0/image/2.nii",
        f"/api/cases/0/image/{'9' * 5000}.nii",
    ],
)
def test_nothing_else_is_served(tmp_path, path) -> None:
    (tmp_path / "secret.nii").write_bytes(b"the content")
    answer = client(write_volume(tmp_path / "folder")).get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}
    assert b"the content" not in answer.content


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Host": "localhost:8765"}, True),
        ({"Host": "evil.example:8765"}, False),
        ({"Host": "127.0.0.1:9999"}, False),
        ({"Host": ""}, False),
        ({"Origin": f"http://{HOST}"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_other_origins_are_refused(tmp_path, headers, allowed) -> None:
    answer = client(write_volume(tmp_path)).get("/api/cases/0", headers=headers)
    assert (answer.status_code == 200) is allowed
    assert allowed or answer.status_code == 403


def test_a_link_from_elsewhere_opens_the_page_alone(tmp_path) -> None:
    asked = client(write_volume(tmp_path))
    elsewhere = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert asked.get("/", headers=elsewhere).status_code == 200
    assert asked.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_server_only_gives(tmp_path, method) -> None:
    assert client(write_volume(tmp_path)).request(method, "/api/cases").status_code == 403


def test_names_are_data_and_can_be_hidden(tmp_path) -> None:
    name = "<script>alert(1)<"
    write_volume(tmp_path, name)
    assert client(tmp_path).get("/api/cases").json()["cases"] == [{"id": 0, "name": name}]
    assert name not in client(tmp_path).get("/").text
    disposition = client(tmp_path).get("/api/cases/0/export/answer").headers["content-disposition"]
    assert disposition == 'attachment; filename="_script_alert_1___answer.nii.gz"'
    hidden = client(tmp_path, hide_names=True)
    texts = [hidden.get(path).text for path in ("/api/cases", "/api/cases/0")]
    assert not any("script" in text for text in texts)
    assert hidden.get("/api/cases").json()["cases"] == [{"id": 0, "name": "case 1"}]
    assert "case_1_answer" in hidden.get("/api/cases/0/export/answer").headers["content-disposition"]


def test_hidden_names_are_in_no_title_and_no_error(tmp_path, monkeypatch) -> None:
    """Whatever the error says: it may name a folder, or the case of another record."""
    folder = write_volume(tmp_path / "Jane", "Jane_Doe")
    hidden = client(folder, hide_names=True)
    assert "Jane" not in hidden.get("/api/cases").text
    for file in list(folder.glob("*_samples*")):
        file.unlink()
    answer = hidden.get("/api/cases/0")
    assert answer.status_code == 404
    assert "Jane" not in answer.text
    (folder / "Jane_Doe_prediction.json").rename(folder / "other_prediction.json")
    answers = [hidden.get(path) for path in ("/api/cases", "/api/cases/1")]
    assert not any("Jane" in answer.text for answer in answers)
    monkeypatch.setattr(Session, "describe", lambda self, number: Path("/nowhere/Jane").stat())
    assert "Jane" not in hidden.get("/api/cases/1").text


def test_the_page_can_ask_for_a_file_without_a_name(tmp_path) -> None:
    asked = client(write_volume(tmp_path, "Jane_Doe"))
    for path in ("export/answer?hidden=1", "export/entropy?hidden=1"):
        disposition = asked.get(f"/api/cases/0/{path}").headers["content-disposition"]
        assert disposition.startswith('attachment; filename="case_1_')


def test_a_map_of_numbers_is_exported_too(tmp_path) -> None:
    write_raster(tmp_path / "raster", maps=["entropy"])
    entropy = np.zeros((12, 10), np.uint16)
    entropy[3, 4] = 65535
    Image.fromarray(entropy).save(tmp_path / "raster" / "photo_entropy.png")
    answer = client(tmp_path / "raster").get("/api/cases/0/export/entropy")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), entropy)
    answer = client(write_volume(tmp_path / "volume")).get("/api/cases/0/export/entropy")
    exported = nifti(gzip.decompress(answer.content))
    np.testing.assert_allclose(np.asarray(exported.dataobj), maps()["mode"] * np.float32(0.3))


def test_a_volume_of_one_slice(tmp_path) -> None:
    """MONAI's writer drops the axes of one voxel at the end."""
    write_volume(tmp_path)
    for file in tmp_path.glob("*.nii.gz"):
        values = np.asarray(nib.load(file).dataobj)[:, :, :1]
        nib.save(nib.Nifti1Image(values if values.ndim == 4 else values[..., 0], AFFINE), file)
    asked = client(tmp_path)
    assert asked.get("/api/cases/0").json()["shape"] == [12, 10, 1]
    exported = nifti(gzip.decompress(asked.get("/api/cases/0/export/sample-1").content))
    np.testing.assert_array_equal(np.asarray(exported.dataobj)[..., 0], maps()["samples"][1][:, :, 0])


@pytest.mark.parametrize("shape", [(32767, 32767, 8), (32767, 32767, 32767), (0, 4, 4)])
def test_a_header_that_its_file_cannot_hold_takes_no_memory(tmp_path, shape) -> None:
    write_volume(tmp_path)
    content = bytearray(gzip.decompress((tmp_path / "case_1_mode.nii.gz").read_bytes()))
    for axis, size in enumerate(shape):
        content[42 + 2 * axis : 44 + 2 * axis] = size.to_bytes(2, "little")
    (tmp_path / "case_1_mode.nii.gz").write_bytes(gzip.compress(bytes(content)))
    answer = client(tmp_path).get("/api/cases/0")
    assert answer.status_code == 404
    assert "case_1_mode.nii.gz" in answer.json()["error"]


@pytest.mark.parametrize("affine", [np.diag([1, 0, 1, 1.0]), np.diag([1, np.nan, 1, 1.0])])
def test_an_affine_that_is_none_is_said(tmp_path, affine) -> None:
    write_volume(tmp_path)
    image = nib.load(tmp_path / "case_1_mode.nii.gz")
    header = image.header.copy()
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    header["sform_code"], header["qform_code"] = 1, 0
    broken = nib.Nifti1Image(np.asarray(image.dataobj), None, header)
    nib.save(broken, tmp_path / "case_1_mode.nii.gz")
    answer = client(tmp_path).get("/api/cases/0")
    assert (answer.status_code, "the affine" in answer.text) == (404, True)


def test_labels_of_a_wider_type_are_not_wrapped(tmp_path) -> None:
    write_volume(tmp_path)
    values = maps()["mode"].astype(np.int16)
    values[0, 0, 0] = 258
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "case_1_mode.nii.gz")
    assert "no labels from 0 to 255" in client(tmp_path).get("/api/cases/0").json()["error"]


def test_maps_of_an_earlier_inference_are_not_shown(tmp_path) -> None:
    write_volume(tmp_path, maps=["entropy"])
    case = client(tmp_path).get("/api/cases/0").json()
    assert [each["id"] for each in case["maps"]] == ["entropy"]


def test_a_name_that_is_no_text_hides_no_other_case(tmp_path) -> None:
    write_volume(tmp_path)
    (tmp_path / os.fsdecode(b"\xff_prediction.json")).write_text("{}")
    assert client(tmp_path).get("/api/cases").json()["cases"] == [{"id": 0, "name": "case_1"}]


def test_what_vanishes_while_open_is_said_and_the_server_goes_on(tmp_path) -> None:
    write_volume(tmp_path, "a")
    write_volume(tmp_path, "b")
    asked = client(tmp_path)
    assert asked.get("/api/cases/0").status_code == 200
    (tmp_path / "a_image.nii.gz").unlink()
    (tmp_path / "a_entropy.nii.gz").write_bytes(b"broken")
    for path in ("image/0.nii", "map/entropy.nii"):
        answer = asked.get(f"/api/cases/0/{path}")
        assert answer.status_code == 404
        assert answer.json()["error"].startswith("a_")
    assert asked.get("/api/cases/0/map/sample-1.raw").status_code == 200  # is in memory
    for file in tmp_path.glob("a_*"):
        file.unlink()
    assert "reload the list" in asked.get("/api/cases/0").json()["error"]
    assert asked.get("/api/cases/1").status_code == 200
    assert asked.get("/api/cases").json()["cases"] == [{"id": 1, "name": "b"}]


def test_new_cases_get_new_numbers(tmp_path) -> None:
    asked = client(write_volume(tmp_path, "m"))
    write_volume(tmp_path, "a")
    assert asked.get("/api/cases").json()["cases"] == [{"id": 1, "name": "a"}, {"id": 0, "name": "m"}]


def test_an_error_that_nobody_expected_is_a_line(tmp_path, monkeypatch) -> None:
    asked = client(write_volume(tmp_path))
    monkeypatch.setattr(Session, "describe", lambda self, number: 1 / 0)
    answer = asked.get("/api/cases/0")
    assert (answer.status_code, answer.json()) == (500, {"error": "ZeroDivisionError: division by zero"})


def test_two_browsers_at_once(tmp_path) -> None:
    """Each asks for another case all the time; every answer is of the case that was asked for."""
    write_volume(tmp_path, "a")
    write_volume(tmp_path, "b")
    nib.save(nib.Nifti1Image(np.ones((*SHAPE, 4), np.uint8), AFFINE), tmp_path / "b_samples.nii.gz")
    asked = client(tmp_path)
    expected = {0: turned(maps()["samples"][1]), 1: np.ones(SHAPE, np.uint8)}
    right: list[int] = []

    def browse(number: int) -> None:
        for _ in range(20):
            found = raw(asked.get(f"/api/cases/{number}/map/sample-1.raw"))
            right.append(int(np.array_equal(found, expected[number])))

    threads = [threading.Thread(target=browse, args=(number,)) for number in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [1] * 40


def test_an_empty_folder_says_so(tmp_path) -> None:
    answer = client(tmp_path).get("/api/cases").json()
    assert answer["cases"] == []
    assert answer["message"].startswith("There is no prediction in")


def test_one_damaged_case_does_not_hide_the_others(tmp_path) -> None:
    write_volume(tmp_path, "a")
    (tmp_path / "b_prediction.json").write_text(json.dumps({"format": 7}))
    asked = client(tmp_path)
    assert len(asked.get("/api/cases").json()["cases"]) == 2
    assert "is of format 7" in asked.get("/api/cases/1").json()["error"]
    assert asked.get("/api/cases/0").status_code == 200
