# SPDX-License-Identifier: Apache-2.0
"""What the documents show: commands have the options that they name, snippets run, links and files exist."""

from __future__ import annotations

import ast
import configparser
import functools
import importlib
import inspect
import json
import pkgutil
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.bundle import run as bundle_run
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY
from own_folders import raster_folder
from packaging.requirements import Requirement
from packaging.version import Version

import monai_stochseg
from monai_stochseg.__main__ import COMMANDS
from monai_stochseg.bundle.overrides import check_overrides
from monai_stochseg.data import simulated_cityscapes_folder
from monai_stochseg.data.lidc import import_lidc, prepare_lidc
from monai_stochseg.planning import plan

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = sorted(path.parent for path in ROOT.glob("bundles/*/train.json"))
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *(folder / "README.md" for folder in BUNDLES),
]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
BLOCK = re.compile(r"^```([^`\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOOLS = ("ruff", "mypy", "pytest", "sphinx-build")
SPAN = re.compile(r"`([^`\n]+)`")
# What docs/papers.md writes for short.
SHORT = {"X ": "python -m monai.bundle run --config_file ", "B/": "bundles/", ",T": ",'bundles/tasks/cityscapes.json'"}


def blocks(name: str, *languages: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return [block for language, block in BLOCK.findall(text) if language in languages]


def commands(name: str, folder: Path) -> list[list[str]]:
    """The words of each command of a document, as bash reads them; none is run, for bash has no path to it."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    show = "command_not_found_handle() { printf '%s\\x1f' \"$@\"; printf '\\x1e'; }\n"
    script = show + "\n".join(blocks(name, "bash", ""))
    environment = {"PATH": str(folder / "none")}
    done = subprocess.run([bash, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [command.split("\x1f")[:-1] for command in done.stdout.split("\x1e")[:-1]]


def options(words: list[str]) -> dict[str, Any]:
    """``--name value`` and ``--name=value``."""
    found, left = {}, list(words)
    while left:
        name, equals, value = left.pop(0).partition("=")
        assert name.startswith("--"), f"{name} is no option"
        found[name[2:]] = DefaultParseValue(value if equals or not left or left[0].startswith("--") else left.pop(0))
    return found


def check_bundle_command(words: list[str]) -> None:
    """``monai.bundle run``: the files are there, the ids known, and what is run refers to nothing that is missing."""
    assert words[0] == "run"
    check_overrides(["monai/bundle/__main__.py", *words])
    run_id = None if words[1].startswith("--") else words[1]
    given = options(words[1 if run_id is None else 2 :])
    assert None not in given.values(), "MONAI drops a bare None: write '$None'"
    files = given["config_file"]
    for file in files if isinstance(files, list) else [files]:
        assert Path(file).is_file(), file
    parser = ConfigParser()
    parser.read_config(files)
    ids = given.keys() - inspect.signature(bundle_run).parameters.keys()
    parser.update({name: given[name] for name in ids})
    parser.parse()
    run = [run_id] if run_id is not None else ["initialize", "run", "finalize"]
    assert not missing(parser.ref_resolver.items, run)


def missing(items: dict[str, Any], wanted: list[str]) -> set[str]:
    """What some items of a parsed configuration need, directly or not, and is not in it."""
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        for child, item in items.items():
            if child == name or child.startswith(f"{name}{ID_SEP_KEY}"):
                wanted += ReferenceResolver.find_refs_in_config(config=item.get_config(), id=child)
    return seen - items.keys()


def check_package_command(words: list[str]) -> None:
    """``monai_stochseg``: the command and its options exist."""
    function = getattr(importlib.import_module(COMMANDS[words[0]][0]), words[0])
    left = words[1:]
    while left and not left[0].startswith("--"):  # arguments by position
        left = left[1:]
    given = options(left)
    known = {name for name, p in inspect.signature(function).parameters.items() if p.kind is not p.VAR_KEYWORD}
    if words[0] == "prepare":
        source = import_lidc if "prepared_set" in given else prepare_lidc
        known |= inspect.signature(source).parameters.keys()
    assert given.keys() <= known


def check_install(words: list[str]) -> None:
    """``pip install [-c FILE] -e .[EXTRA]``: the extras and the file exist."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    if words[1] == "-c":
        assert (ROOT / words[2]).is_file()
        words = [words[0], *words[3:]]
    assert words[:2] == ["install", "-e"]
    (extras,) = re.findall(r"^\.(?:\[(.*)\])?$", words[2])
    assert set(extras.split(",")) - {""} <= setup["options.extras_require"].keys()


def test_the_lowest_versions_are_the_bounds() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    required = [Requirement(line) for line in setup["options"]["install_requires"].split()]
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = {r.name: r for r in (Requirement(line) for line in lines if not line.startswith("#"))}
    assert pinned.keys() == {requirement.name for requirement in required}
    for requirement in required:
        (lowest,) = (Version(each.version) for each in requirement.specifier if each.operator == ">=")
        assert [Version(each.version) for each in pinned[requirement.name].specifier] == [lowest], requirement


def check_command(words: list[str]) -> None:
    if words[0] == "torchrun":
        words = ["python", *words[words.index("-m") :]]
    checks: dict[str, Callable[[list[str]], None]] = {
        "monai.bundle": check_bundle_command,
        "monai_stochseg": check_package_command,
    }
    if words[:2] == ["python", "-m"]:
        checks[words[2]](words[3:])
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file() or (ROOT / words[1] / "__main__.py").is_file()
    elif words[0] == "pip":
        check_install(words[1:])
    else:
        assert words[0] in TOOLS


@pytest.fixture
def other_bundle(tmp_path) -> str:
    """Of another project, whose network a command takes; the folder that stands for /models."""
    config = tmp_path / "models" / "nodules" / "configs" / "train.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"network_def": {"_target_": "UNet", "spatial_dims": 2}}))
    return str(tmp_path / "models")


@pytest.fixture(scope="session")
def own_folder(tmp_path_factory) -> str:
    """A user's folder with its plan; the folder that stands for /data/mine."""
    root = raster_folder(tmp_path_factory.mktemp("data") / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai_stochseg.planning.choose.step_seconds", lambda *args: 0.1)
        plan(str(root), progress=False)
    return str(root)


@pytest.mark.parametrize("name", NAMES)
def test_commands(name, tmp_path, monkeypatch, other_bundle, own_folder) -> None:
    monkeypatch.chdir(ROOT)
    for words in commands(name, tmp_path):
        words = [word.replace("%/models", f"%{other_bundle}") for word in words]
        words = [word.replace("/data/mine", own_folder) for word in words]
        try:
            check_command(words)
        except Exception as error:
            raise AssertionError(f"{' '.join(words)}: {error!r}") from error


def test_documents_show_commands(tmp_path) -> None:
    """As many as bash reads."""
    assert len(commands("README.md", tmp_path)) > 6
    assert all(len(commands(name, tmp_path)) > 4 for name in NAMES if name.startswith("bundles/"))
    folded, quoted = (
        words for words in commands("bundles/car_lidc/README.md", tmp_path) if any("$torch" in word for word in words)
    )
    assert "$torch.jit.load('/models/nodules.ts', 'cpu')" in folded
    assert "$None" in folded
    (network,) = (word for word in quoted if word.startswith("$torch"))
    assert network.endswith("BlackBoxCalibrationNetwork(@task.spatial_dims, 2, 2))")


@pytest.mark.parametrize(
    "command",
    [
        "python -m monai.bundle run --config_file bundles/ssn_lidc/none.json",
        "python -m monai.bundle run --config_file bundles/ssn_lidc/train.json --rnak 3",
        "python -m monai.bundle run --config_file bundles/ssn_lidc/train.json --manifest None",
        "python -m monai.bundle run --config_file bundles/ssn_lidc/train.json --resume false",
        "python -m monai.bundle run --config_file bundles/ssn_lidc/train.json --optimizer#lr @rate",
        "python -m monai.bundle run refine --config_file bundles/ssn_lidc/train.json",
        "torchrun --nproc_per_node=2 -m monai.bundle train --config_file bundles/ssn_lidc/train.json",
        "python -m monai_stochseg benchmark --sead 1",
        "python -m monai_stochseg prepare --prepared_set set --out crops --dicom_dir dicom --missing_scans skip",
        "python -m monai_stochseg train",
        "python benchmark",
        "pip install -e .[tests]",
        "pip install -c constraints-none.txt -e .",
        "conda install monai_stochseg",
    ],
)
def test_wrong_commands_are_found(command, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises((AssertionError, KeyError, ValueError, FileNotFoundError)):
        check_command(command.split())


def inline_commands(name: str) -> Iterator[list[str]]:
    """The words of the commands within the lines of a document that name a command and its options."""
    text = BLOCK.sub("", (ROOT / name).read_text(encoding="utf-8"))
    for span in SPAN.findall(text):
        if name == "docs/papers.md" and span.startswith("X "):
            for short, long in SHORT.items():
                span = span.replace(short, long)
        if re.match(r"(python|torchrun|pip install) ", span) and not re.search(r"\.\.\.|--config_file$", span):
            yield shlex.split(span)


@pytest.mark.parametrize("name", NAMES)
def test_commands_within_lines(name, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in inline_commands(name):
        if words[:2] == ["python", "-m"] and len(words) < 5:  # the name of a command alone
            assert words[2] != "monai_stochseg" or {*words[3:]} <= COMMANDS.keys()
            continue
        try:
            check_command(words)
        except Exception as error:
            raise AssertionError(f"{' '.join(words)}: {error!r}") from error


@functools.cache
def ids(bundle: str) -> set[str]:
    """The ids at the top of a bundle's files and of those that all bundles share."""
    files = [*(ROOT / "bundles" / bundle).glob("*.json"), *ROOT.glob("bundles/*.json"), *ROOT.glob("bundles/tasks/*")]
    return {name.split("#")[0].lstrip("+") for file in files for name in json.loads(file.read_text(encoding="utf-8"))}


def package_options() -> set[str]:
    """Of all commands of the package, and of the programs beside it."""
    functions = [getattr(importlib.import_module(COMMANDS[name][0]), name) for name in COMMANDS]
    functions += [prepare_lidc, import_lidc]
    names = {name for function in functions for name in inspect.signature(function).parameters}
    scripts = "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("benchmarks/*.py"))
    names |= set(re.findall(r'add_argument\("--(\w+)"', scripts))
    return names | {"config_file", "check", "nproc_per_node", "standalone", "number", "seeds", "learning_rate"}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "CHANGELOG.md"])  # which names former options
def test_options_within_lines(name) -> None:
    """``--name`` is an id of the bundle, elsewhere of any bundle, or an option of a command."""
    bundles = [name.split("/")[1]] if name.startswith("bundles/") else [folder.name for folder in BUNDLES]
    known = set.union(package_options(), *(ids(bundle) for bundle in bundles))
    text = BLOCK.sub("", (ROOT / name).read_text(encoding="utf-8"))
    found = {option for span in SPAN.findall(text) for option in re.findall(r"(?:^|\s)--(\w+)", span)}
    assert found <= known, found - known


def wrong_defaults(readme: str, train: dict[str, Any]) -> list[str]:
    """Ids of a README's table whose default is not that of ``train.json``, where that is a value and no expression."""
    (table,) = re.findall(r"^\| id \| default \|.*\n.*\n((?:\|.*\n)*)", readme, re.MULTILINE)
    wrong = []
    for row in table.splitlines():
        _, names, shown, *_ = row.split("|")
        found = re.findall(r"`(\w+)`", names)
        cells = re.split(r"[,;] ", shown.strip())
        for position, name in enumerate(found):
            # several ids, and as many defaults: each by its place
            cell = cells[position] if len(cells) == len(found) > 1 else shown
            if shown.strip() and not is_shown(train.get(name), cell):
                wrong.append(f"{name}: {train[name]} in train.json, {cell.strip()!r} in the README")
    return wrong


def is_shown(value: Any, cell: str) -> bool:
    """Whether a value of a configuration stands in the cell of a table; always, of null and of an expression."""
    if value is None or isinstance(value, dict) or (isinstance(value, str) and value[:1] in ("$", "@")):
        return True
    if value == []:
        return "none" in cell
    if isinstance(value, (bool, str)):
        return re.search(rf"\b{value}\b", cell) is not None
    if isinstance(value, (int, float)):
        return value in numbers(cell)
    if all(isinstance(item, (int, float)) for item in value):
        given = numbers(re.sub(r"([\d.]+)\^(\d)", lambda power: " ".join([power[1]] * int(power[2])), cell))
        return any(given[start : start + len(value)] == value for start in range(len(given)))
    return all(is_shown(item, cell) for item in value)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w])", text)]


@pytest.mark.parametrize("bundle", [folder.name for folder in BUNDLES])
def test_defaults_of_a_readme_are_those_of_its_configuration(bundle) -> None:
    train = json.loads((ROOT / "bundles" / bundle / "train.json").read_text(encoding="utf-8"))
    assert wrong_defaults((ROOT / "bundles" / bundle / "README.md").read_text(encoding="utf-8"), train) == []


@pytest.mark.parametrize(
    ("default", "other", "name"),
    [
        ("| 0.002, Adam", "| 0.003, Adam", "learning_rate"),
        ("16, 4, 1000, 16", "16, 4, 16, 1000", "images_per_epoch"),
        ("16 32 48 64, `BATCH`", "16 32 64 64, `BATCH`", "channels"),
        ("`mean` | how", "`random` | how", "raters"),
        ("10, False, 0.1", "10, True, 0.1", "diagonal"),
    ],
)
def test_a_wrong_default_is_found(default, other, name) -> None:
    folder = ROOT / "bundles" / "ssn_lidc"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert default in readme
    found = wrong_defaults(readme.replace(default, other), json.loads((folder / "train.json").read_text()))
    assert [line.split(":")[0] for line in found][:1] == [name]


def execute(snippets: list[str], **names: Any) -> dict[str, Any]:
    for snippet in snippets:
        exec(compile(snippet, "snippet", "exec"), names)
    return names


def test_snippets_of_the_readme_run() -> None:
    size = (16, 16, 16)
    snippets = blocks("README.md", "python")
    found = execute(snippets, image=torch.rand(2, 4, *size), raters=torch.randint(4, (2, 3, *size)))
    assert found["loss"].isfinite()
    assert found["samples"].shape == (2, 8, *size)


def test_snippets_on_deployment_run() -> None:
    probabilities, samples, entropy = (
        execute(blocks("docs/deploy.md", "python"))[name] for name in ("probabilities", "samples", "entropy")
    )
    assert (probabilities.shape, samples.shape, entropy.shape) == ((1, 3, 16, 16), (1, 8, 16, 16), (1, 1, 16, 16))


def test_snippets_of_the_quick_start_run() -> None:
    found = execute(blocks("docs/quickstart.md", "python"))
    assert found["net"](found["image"]).shape == (4, 2 * (2 + 10), 64, 64)


def test_snippets_on_cityscapes_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    simulated_cityscapes_folder("cityscapes", 8, (32, 64))
    found = execute(blocks("docs/cityscapes.md", "python"))
    assert found["train"][0]["label"].shape == (1, 256, 512)
    assert found["test"][0]["label"].shape == (32, 256, 512)  # of all switches


def test_all_extras_are_explained() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    text = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| extra \|.*\n.*\n((?:\|.*\n)*)", text, re.MULTILINE)
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == setup["options.extras_require"].keys()


def test_snippets_on_label_smoothing_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = execute(blocks("docs/label_smoothing.md", "python"))
    assert found["target"].shape == (2, 8, 8, 8)
    assert (tmp_path / "reliability.png").is_file()


@functools.cache
def public_names() -> dict[str, Any]:
    """Of all packages, by name."""
    names: dict[str, Any] = {}
    for info in pkgutil.walk_packages(monai_stochseg.__path__, "monai_stochseg."):
        if info.ispkg:
            package = importlib.import_module(info.name)
            names |= {name: getattr(package, name) for name in package.__all__}
    return names


def calls(snippet: str) -> Iterator[tuple[Any, ast.Call]]:
    """Each call of an imported or public name, and what is called."""
    tree = ast.parse(snippet)
    names = dict(public_names())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield names[node.func.id], node


@pytest.mark.parametrize("name", NAMES)
def test_snippets_call_what_there_is(name) -> None:
    for snippet in blocks(name, "python"):
        for called, node in calls(snippet):
            given = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg is not None}
            inspect.signature(called).bind_partial(*given, **keywords)


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name) -> None:
    document = ROOT / name
    text = BLOCK.sub("", document.read_text(encoding="utf-8"))
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
        if target.startswith("http"):
            continue
        linked = document.parent / target if target else document
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def test_the_rooms_of_the_readme_hold_what_it_says() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| room \|.*\n.*\n((?:\|.*\n)*)", text, re.MULTILINE)
    rooms = [row.split("|")[1:3] for row in table.splitlines()]
    packages = {info.name for info in pkgutil.iter_modules(monai_stochseg.__path__) if info.ispkg}
    assert {room.split("`")[1].split(".")[0] for room, _ in rooms} == packages
    for room, content in rooms:
        package = importlib.import_module(f"monai_stochseg.{room.split('`')[1]}")
        for name in re.findall(r"(?<!MONAI's )`([\w.]+)`", content):
            functools.reduce(getattr, name.split("."), package)


def test_all_overlays_are_named() -> None:
    overlays = {path.stem for path in ROOT.glob("bundles/tasks/*.json")}
    readme, bundles = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/bundles.md"))
    assert set(re.findall(r"`tasks/(\w+)\.json`", bundles)) == overlays
    (named,) = re.findall(r"^The overlays are ([^.]*)\.", readme, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", named)) == overlays


@pytest.mark.parametrize("bundle", [folder.name for folder in BUNDLES])
def test_ids_of_all_bundles(bundle) -> None:
    text = (ROOT / "docs" / "bundles.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| id \|.*\n.*\n((?:\|.*\n)*)", text, re.MULTILINE)
    ids = {name for table in tables for row in table.splitlines() for name in re.findall(r"`(.*?)`", row.split("|")[1])}
    assert len(ids) > 20
    files = [ROOT / "bundles" / file for file in (f"{bundle}/train.json", "evaluate.json", f"{bundle}/inference.json")]
    if json.loads(files[0].read_text())["validate"]["evaluator"]["_target_"].endswith("make_answer_evaluator"):
        ids -= {"test_samples", "answer_entropy", "mutual_information"}  # it draws no samples
    for name in {name for name in ids if not name.endswith("...")}:
        check_overrides(["monai/bundle", "run", "--config_file", repr([str(file) for file in files]), f"--{name}", "1"])


# What stands for the names of a walk in CONTRIBUTING.md.
EXAMPLES = [
    {"network": "probabilistic_unet", "loss": "elbo", "method": "probunet", "task": "lidc", "kind": "latent"},
    {"data": "kits"},
    {"metric": "energy_distance"},
]


@pytest.mark.parametrize("walk", range(len(EXAMPLES)))
def test_the_walks_name_the_files_of_what_there_is(walk) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| file \|.*\n.*\n((?:\|.*\n)*)", text, re.MULTILINE)[walk]
    files = [file for row in table.splitlines() for file in re.findall(r"`(.*?)`", row.split("|")[1])]
    assert len(files) > 6
    for file in files:
        path = re.sub(r"<(\w+)>", lambda name: EXAMPLES[walk][name[1]], file)
        assert (ROOT / path).is_file(), path


def test_what_may_be_relied_on_is_held_by_tests() -> None:
    """Each line of a table names tests, and these exist."""
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith(("| what |", "| --- |"))]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, name in named:
            assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), name
