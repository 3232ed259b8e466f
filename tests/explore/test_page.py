# SPDX-License-Identifier: Apache-2.0
"""The page in headless Chromium: what a person does with it."""

from __future__ import annotations

import gzip
import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from browser import Page, chromium, served
from predictions import maps, write_raster, write_volume

from monai_stochseg.explore.prediction_folder import PredictionFolder

HOSTILE = "<img src=x onerror=alert(1)>".replace("/", "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def look(browser, tmp_path) -> Iterator[Callable[..., Page]]:
    """Open a page on a folder."""
    servers, pages = [], []

    def make(write: Callable | None = None, hash_: str = "", server: dict | None = None, **options: Any) -> Page:
        (write or write_volume)(tmp_path)
        running = served(PredictionFolder(tmp_path), **(server or {}))
        servers.append(running)
        page = Page(browser, running.__enter__() + hash_, **options)
        pages.append(page)
        return page

    yield make
    for page in pages:
        page.close()
    for running in servers:
        running.__exit__(None, None, None)


def test_a_person_flips_through_the_samples(look) -> None:
    page = look()
    order = [
        int(index) for index in page.page.eval_on_selector_all("#ticks i", "all => all.map(e => e.dataset.sample)")
    ]
    assert sorted(order) == [0, 1, 2, 3]
    assert page.body["overlay"] == f"sample-{order[0]}"
    for index in order[1:]:
        page.press("ArrowRight")
        assert page.body["overlay"] == f"sample-{index}"
        assert page.text("#sample-title").startswith(f"Sample {index + 1} of 4")
    page.press("ArrowLeft")
    assert page.body["overlay"] == f"sample-{order[2]}"
    page.select("#order", "volume-0")
    page.slide("#sample-slider", 3)
    assert page.body["overlay"] == "sample-2"  # the largest
    assert "1.68" in page.text("#volumes")


def test_overlays_by_keys_and_by_the_list(look) -> None:
    page = look()
    seen = []
    for key in ("a", "r", "r", "e", "e", "s", "0"):
        page.press(key)
        seen.append(page.body["overlay"])
    assert seen[:3] == ["answer", "reader-0", "reader-1"]
    assert seen[3] != seen[4]
    assert {*seen[3:5]} <= {"probability-0", "entropy", "mutual_information"}
    assert seen[5].startswith("sample-")
    assert seen[6] == "none"
    page.select("#overlay", "entropy")
    assert page.body["overlay"] == "entropy"
    assert "1.10" in page.text("#colour-bar")  # log 3


def test_a_bar_picks_its_samples(look) -> None:
    page = look()
    bar = "#histogram-figure [data-count='1']"
    page.click(bar)
    assert page.body["overlay"] == "sample-2"
    assert "1 of 4" in page.text("#picked")
    page.click("#clear-picked")
    assert not page.page.is_visible("#picked")
    assert page.page.get_attribute("#sample-slider", "max") == "3"


def test_clusters_show_their_middle_sample(look) -> None:
    page = look()
    rows = page.page.query_selector_all("#cluster-list button")
    lacking = next(row for row in rows if "no core" in row.inner_text())
    page.act(lacking.click)
    assert page.body["overlay"] == "sample-3"


def test_the_exported_map_is_that_of_the_files(look, tmp_path) -> None:
    page = look()
    page.select("#order", "volume-0")
    page.slide("#sample-slider", 3)
    with page.page.expect_download() as waiting:
        page.page.click("#export button, #export a")
    path = tmp_path / "exported.nii.gz"
    waiting.value.save_as(path)
    exported = nib.load(path)
    np.testing.assert_array_equal(np.asarray(exported.dataobj), maps()["samples"][2])
    np.testing.assert_array_equal(exported.affine, nib.load(tmp_path / "case_1_mode.nii.gz").affine)
    address = page.address.split("#")[0] + "api/cases/0/export/sample-2"
    with urllib.request.urlopen(address) as answer:
        same = nib.Nifti1Image.from_bytes(gzip.decompress(answer.read()))
    np.testing.assert_array_equal(np.asarray(same.dataobj), np.asarray(exported.dataobj))


def test_a_link_has_the_state(look, browser) -> None:
    page = look(lambda folder: (write_volume(folder, "a"), write_volume(folder, "b")))
    page.click("[data-case-id='1']")
    page.select("#channel", "t1")
    page.select("#plane", "coronal")
    page.select("#order", "volume-1")
    page.slide("#sample-slider", 0)
    link = page.page.url
    assert "#" in link
    other = Page(browser, link)
    assert (other.body["case"], other.body["overlay"]) == ("1", "sample-3")
    assert other.page.input_value("#channel") == "t1"
    assert other.page.input_value("#plane") == "coronal"
    assert other.page.input_value("#order") == "volume-1"
    other.close()


def test_the_picture_changes_with_the_overlay(look) -> None:
    """What is drawn, by its pixels: the colours of the classes are in it, and go with the overlay."""
    page = look()
    page.press("a")
    with_answer = page.page.locator("#canvas").screenshot()
    page.press("0")
    assert page.page.locator("#canvas").screenshot() != with_answer
    page.press("a")
    assert page.page.locator("#canvas").screenshot() == with_answer
    page.select("#plane", "multi")
    assert page.page.locator("#canvas").screenshot() != with_answer


def test_a_picture_of_two_dimensions(look) -> None:
    page = look(write_raster)
    assert page.page.input_value("#channel") == "colour"
    assert not page.page.is_visible("#plane-field")
    page.press("ArrowRight")
    assert page.body["overlay"].startswith("sample-")


def test_names_are_text_and_can_be_hidden(look) -> None:
    page = look(lambda folder: write_volume(folder, HOSTILE))
    assert page.text("#case-name") == HOSTILE
    assert page.page.query_selector("#case-list img") is None
    page.page.click("#hide-names")
    page.page.wait_for_selector("#case-name:has-text('case 1')")
    assert "img" not in page.text("body")
    assert "img" not in page.page.title()
    assert "img" not in page.page.url


def test_hidden_names_never_reach_the_page(look) -> None:
    page = look(lambda folder: write_volume(folder, "Jane_Doe"), server={"hide_names": True})
    assert page.page.is_disabled("#hide-names")
    assert "Jane" not in page.page.content()


def test_a_case_that_fails_leaves_the_page_alive(look, tmp_path) -> None:
    page = look(lambda folder: (write_volume(folder, "a"), write_volume(folder, "b")))
    (tmp_path / "b_samples.nii.gz").write_bytes(b"broken")
    page.click("[data-case-id='1']")
    assert "b_samples.nii.gz cannot be read" in page.text("#banner")
    page.click("[data-case-id='0']")
    assert page.body["overlay"].startswith("sample-")
    assert not page.page.is_visible("#banner")
    page.errors = [error for error in page.errors if "404" not in error]  # Chromium's own line of the answer


def test_new_cases_come_with_the_button(look, tmp_path) -> None:
    page = look()
    write_volume(tmp_path, "case_2")
    page.click("#reload")
    assert page.page.locator("#case-list button").count() == 2


def test_an_empty_folder_says_so(browser, tmp_path) -> None:
    with served(PredictionFolder(tmp_path)) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#cases-message:visible")
        assert "There is no prediction in" in page.inner_text("body")
        page.close()


def test_a_folder_without_image_or_samples(look) -> None:
    def write(folder):
        write_volume(folder, "a", has_image=False, rater_weights=[])
        write_volume(folder, "b", num_samples=0, noise_seed=None)

    page = look(write)
    assert "No image was saved" in page.text("body")
    page.click("[data-case-id='1']")
    assert page.body["overlay"] == "answer"
    assert "single answer" in page.text("#samples-none")


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_nothing_is_wider_than_the_window(look, width, colours) -> None:
    page = look(width=width, color_scheme=colours)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.page.evaluate("document.documentElement.dataset.theme") == colours
    assert "Research use only" in page.text("#notice")


def test_every_control_is_reached_by_the_keyboard(look) -> None:
    page = look()
    wanted = set(
        page.page.eval_on_selector_all(
            "button:not(:disabled), select:not(:disabled), input:not(:disabled), [tabindex='0']",
            "all => all.filter(e => e.checkVisibility() && e.id).map(e => e.id)",
        )
    )
    seen = set()
    for _ in range(120):
        page.page.keyboard.press("Tab")
        seen.add(page.page.evaluate("document.activeElement.id"))
    assert wanted <= seen, wanted - seen


def test_without_webgl_the_rest_works(browser, tmp_path) -> None:
    write_volume(tmp_path)
    with served(PredictionFolder(tmp_path)) as address:
        context = browser.new_context()
        context.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("#stage-message:visible")
        assert "no WebGL2" in page.inner_text("#stage-message")
        page.wait_for_selector("#sample-title:visible")
        assert "Sample" in page.inner_text("#sample-title")
        context.close()


def test_settings_in_a_link_are_json(look) -> None:
    """A link with a damaged edit opens all the same."""
    page = look(hash_="#case=0&edit=%7Bbroken&overlay=nonsense&sample=99&bar=77")
    assert page.body["case"] == "0"
    assert page.body["overlay"].startswith("sample-")
    assert json.loads(json.dumps(page.body))["failed"] == "0"
