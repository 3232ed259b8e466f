# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from monai_stochseg.__main__ import COMMANDS, main
from monai_stochseg.data import CaseError
from monai_stochseg.data.csv_file import write_csv
from monai_stochseg.data.lidc import crops_datalist
from monai_stochseg.tasks import mode_frequencies as mode_frequencies_module
from monai_stochseg.tasks import reliability as reliability_module


def test_prepares_a_shared_set(tmp_path, capsys) -> None:
    for name in ("images/p/c", *(f"gt/p/c_l{rater}" for rater in range(4))):
        file = tmp_path / "set" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((6, 6), dtype=np.uint8)).save(file)
    main(["prepare", "--prepared_set", str(tmp_path / "set"), "--out", str(tmp_path / "crops"), "--progress=False"])
    assert capsys.readouterr() == (f"{tmp_path / 'crops'}\n", "")
    assert len(crops_datalist(tmp_path / "crops")) == 1


def test_wrong_data_end_in_one_line(tmp_path) -> None:
    words = ["prepare", f"--dicom_dir={tmp_path / 'nowhere'}", f"--out={tmp_path / 'crops'}"]
    finished = subprocess.run([sys.executable, "-m", "monai_stochseg", *words], capture_output=True, text=True)
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr == f"CaseError: dicom_dir: there is no folder {tmp_path / 'nowhere'}.\n"


def test_dicom_options_arrive(monkeypatch) -> None:
    called = []

    def prepare_lidc(dicom_dir: str, out: str, spatial_dims: int = 2, missing: str = "error") -> str:
        called.append((dicom_dir, out, spatial_dims, missing))
        return out

    monkeypatch.setattr("monai_stochseg.data.lidc.command.prepare_lidc", prepare_lidc)
    main(["prepare", "--dicom_dir", "LIDC-IDRI", "--out", "7", "--spatial_dims", "3", "--missing", "skip"])
    assert called == [("LIDC-IDRI", "7", 3, "skip")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out=x"], "CaseError: prepare: give one of --dicom_dir and --prepared_set"),
        (["--out=x", "--dicom_dir=a", "--prepared_set=b"], "CaseError: prepare: give one of"),
        (
            ["--out=x", "--dicom_dir=a", "--sapcing=1"],
            "CaseError: prepare: got an unexpected keyword argument 'sapcing'",
        ),
        (["--out=x", "--dicom_dir=a", "--spatial_dims=4"], "CaseError: spatial_dims must be 2 or 3, got 4"),
        (["--out=x", "--dicom_dir=a", "--spatial_size=big"], "CaseError: .* not supported between .*'str' and 'int'"),
        (["--out=x", "--dicom_dir=a", "--spacing=0"], "CaseError: spatial_size and spacing must be positive"),
        (["--out=x", "--dicom_dir=a", "--min_raters=5"], "CaseError: min_raters must lie in 1 to 4"),
        (["--out=x", "--dicom_dir=a", "--crowded=last"], "CaseError: crowded must be one of"),
        (["--out=x", "--dicom_dir=a", "--missing=no"], "CaseError: missing must be 'error' or 'skip', got 'no'"),
        (["--out=x", "--dicom_dir=a", "--max_slice_thickness=0"], "CaseError: max_slice_thickness must be positive"),
        (["--out=x", "--prepared_set=a", "--min_raters=2"], "CaseError: .* unexpected keyword argument 'min_raters'"),
    ],
)
def test_refuses(tmp_path, monkeypatch, words, message) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        main(["prepare", *words])
    assert not list(tmp_path.iterdir())


@pytest.fixture
def command(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """Make a function the command `fail`."""

    def add(function: Callable[[], object]) -> None:
        module = ModuleType("commands_of_a_test")
        module.fail = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, "fail", (module.__name__, "fail"))

    return add


@pytest.mark.parametrize(
    "error",
    [ImportError("LIDC needs pylidc"), FileExistsError("x is there"), FileNotFoundError("no x"), CaseError("cut")],
)
def test_expected_errors(command, error) -> None:
    def fail() -> None:
        raise error

    command(fail)
    with pytest.raises(SystemExit, match=f"{type(error).__name__}: {error}"):
        main(["fail"])


def test_other_errors_keep_their_traceback(command) -> None:
    command(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["fail"])


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_the_list_of_commands_imports_nothing_of_monai(words) -> None:
    script = f"import sys\nfrom monai_stochseg.__main__ import main\nmain({words})\nprint('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    *lines, imported = shown.splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(COMMANDS)
    assert imported == "False"


def test_every_command_is_there() -> None:
    for name, (module, _) in COMMANDS.items():
        assert callable(getattr(import_module(module), name))


def test_an_unknown_command() -> None:
    with pytest.raises(SystemExit, match="there is no command 'bench'; there are benchmark, bundle, "):
        main(["bench"])


def write_frequencies(folder: Path, *rows: tuple) -> str:
    folder.mkdir()
    write_csv(folder / "mode_frequency_test.csv", [("mode", "probability", "frequency"), *rows])
    return str(folder / "mode_frequency_test.csv")


def test_mode_frequencies_of_several_methods_in_one_figure(tmp_path, monkeypatch, capsys) -> None:
    first = write_frequencies(tmp_path / "first", (0, 0.75, 0.5), (1, 0.25, 0.5))
    second = write_frequencies(tmp_path / "second", (0, 0.75, 1.0), (1, 0.25, 0.0))
    drawn: list[dict] = []
    plot = mode_frequencies_module.plot_mode_frequency
    monkeypatch.setattr(
        mode_frequencies_module, "plot_mode_frequency", lambda found: drawn.append(found) or plot(found)
    )
    out = tmp_path / "both.png"
    main(["mode_frequencies", first, second, "--out", str(out)])
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_bytes()[:4] == b"\x89PNG"
    (found,) = drawn
    assert {name: value.tolist() for name, value in found.items()} == {
        "first": [[0.5, 0.5], [0.75, 0.25]],
        "second": [[1.0, 0.0], [0.75, 0.25]],
    }
    main(["mode_frequencies", first, second, "--out", str(out), "--names", "['a','b']"])
    assert list(drawn[1]) == ["a", "b"]
    other = write_frequencies(tmp_path / "other", (0, 0.5, 0.5), (1, 0.5, 0.5))
    empty = write_frequencies(tmp_path / "empty")
    for words, message in (
        ([], "give at least one"),
        ([first, first], "each of the 2 files needs a name of its own"),
        ([first, "--names", "[a,b]"], "each of the 1 files needs a name of its own"),
        ([first, other], "the files are not of one task and part"),
        ([empty], "is no table of mode, probability, frequency"),
    ):
        with pytest.raises(SystemExit, match=f"CaseError: mode_frequencies: .*{message}"):
            main(["mode_frequencies", *words, "--out", str(out)])


def test_the_reliability_of_several_targets_in_one_diagram(tmp_path, monkeypatch, capsys) -> None:
    """With the same errors as the sums have; of other voxels they are refused."""
    files = []
    for name, accuracy in (("onehot", 2.0), ("svls", 3.5)):
        (tmp_path / name).mkdir()
        files.append(str(tmp_path / name / "reliability_test.csv"))
        rows = f"bin,count,confidence,accuracy\n0,1,0.25,0\n1,4,3.5,{accuracy}\n"
        Path(files[-1]).write_text(rows)
    drawn = []
    plot = reliability_module.plot_reliability
    monkeypatch.setattr(reliability_module, "plot_reliability", lambda *a, **k: drawn.append((a, k)) or plot(*a, **k))
    out = tmp_path / "both.png"
    main(["reliability", *files, "--out", str(out), "--title", "test part"])
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_bytes()[:4] == b"\x89PNG"
    ((found,), options) = drawn[0]
    assert options == {"title": "test part"}
    assert {name: bins.tolist() for name, bins in found.items()} == {
        "onehot": [[1, 0.25, 0], [4, 3.5, 2]],
        "svls": [[1, 0.25, 0], [4, 3.5, 3.5]],
    }
    (tmp_path / "svls" / "reliability_test.csv").write_text("bin,count,confidence,accuracy\n0,7,3,1\n")
    for words, message in (
        (files, "the files are not of the same voxels, whose numbers are {'onehot': 5, 'svls': 7}"),
        ([], "give at least one table with the columns bin, count"),
        ([files[0], files[0]], "each of the 2 files needs a name of its own"),
    ):
        with pytest.raises(SystemExit, match=f"CaseError: reliability: .*{message}"):
            main(["reliability", *words, "--out", str(out)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hide_name", "True"], r"explore has no option --hide_name; did you mean --hide_names\?"),
        (["--xyz=1"], "explore has no option --xyz; it has --prediction_dir"),
    ],
)
def test_a_misspelt_option_is_refused_before_anything_runs(monkeypatch, words, message) -> None:
    """Fire would run the command first: here one that hides names would show them."""
    called = []

    def explore(prediction_dir: str | None = None, hide_names: bool = False) -> None:
        called.append(prediction_dir)

    monkeypatch.setattr("monai_stochseg.explore.explore", explore)
    with pytest.raises(SystemExit, match=message):
        main(["explore", "--prediction_dir", "x", *words])
    assert not called
    main(["explore", "--prediction-dir", "x", "--nohide_names"])
    assert called == ["x"]
