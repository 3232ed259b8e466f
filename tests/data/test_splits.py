# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from monai_stochseg.data import CaseError, read_split, share_of_cases, split_cases, write_split

CASES = [{"patient": f"{person}_{time}", "subject": f"{person}"} for person in range(10) for time in range(2)]


@pytest.mark.parametrize(
    ("persons", "fractions", "counts"),
    [
        (1, (0.6, 0.1, 0.3), (1, 0, 0)),
        (2, (0.6, 0.1, 0.3), (1, 1, 0)),
        (3, (0.6, 0.1, 0.3), (1, 1, 1)),
        (4, (0.6, 0.1, 0.3), (2, 1, 1)),
        (10, (0.6, 0.1, 0.3), (6, 1, 3)),
        (274, (0.6, 0.1, 0.3), (165, 27, 82)),
        (100, (0.7, 0.29, 0.01), (70, 29, 1)),
        (3, (0.0, 0.5, 0.5), (1, 1, 1)),
        (5, (0.8, 0.2, 0.0), (4, 1, 0)),
        (2, (0.0, 0.0, 1.0), (0, 0, 2)),
    ],
)
def test_counts(persons, fractions, counts) -> None:
    split = split_cases([{"patient": f"{person:03d}"} for person in range(persons)], fractions)
    assert tuple(len(split[name]) for name in ("train", "validation", "test")) == counts


def test_no_person_in_two_parts() -> None:
    parts = [{case["subject"] for case in part} for part in split_cases(CASES).values()]
    assert [len(part) for part in parts] == [6, 1, 3]
    assert len(set.union(*parts)) == 10


def test_depends_on_seed_and_not_on_order() -> None:
    def names(split):
        return {part: {case["patient"] for case in cases} for part, cases in split.items()}

    assert names(split_cases(CASES, seed=3)) == names(split_cases(CASES[::-1], seed=3))
    assert names(split_cases(CASES, seed=3)) != names(split_cases(CASES, seed=4))


def test_keeps_the_split_of_the_data_set() -> None:
    cases = [{"patient": "a", "split": "test"}, {"patient": "b", "split": "train"}]
    assert split_cases(cases) == {"train": [cases[1]], "validation": [], "test": [cases[0]]}
    with pytest.raises(CaseError, match="patient c lies in none of the folders"):
        split_cases([*cases, {"patient": "c"}])


def test_file_keeps_the_split(tmp_path) -> None:
    split, file = split_cases(CASES), tmp_path / "run" / "split.json"
    write_split(split, file)
    assert read_split(file, CASES[::-1]) == split
    assert [path.name for path in file.parent.iterdir()] == ["split.json"]
    assert json.loads(file.read_text())["validation"] == [case["patient"] for case in split["validation"]]
    with pytest.raises(CaseError, match=r"patient \d_\d of the split .*split.json is not in the data set"):
        read_split(file, CASES[:5])


ALL = [case["patient"] for case in CASES]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"cannot be read \(.*give the split.json of a training, or split anew"),
        ('{"train": ["0_0"', r"cannot be read \("),
        ("[]", r"must be an object with the parts .*, got list; give"),
        ("{}", r"must be an object with the parts .*, got \[\]; give"),
        (json.dumps({"train": ALL}), r"must be an object with the parts .*, got \['train'\]"),
        (json.dumps({"train": ALL, "val": [], "test": []}), r"with the parts .*'validation'.*, got .*'val'"),
        (json.dumps({"train": "0_0", "validation": [], "test": []}), "train in .* must be a list of patients' names"),
        (json.dumps({"train": [0], "validation": [], "test": []}), "train in .* must be a list of patients' names"),
        (json.dumps({"train": [], "validation": [], "test": []}), "holds no patient"),
        (
            json.dumps({"train": ["0_0"], "validation": ["1_0"], "test": ["0_0"]}),
            r"patient 0_0 lies in train and in test of the split .*; keep one",
        ),
        (json.dumps({"train": ["0_0", "0_0"], "validation": [], "test": []}), "0_0 stands twice in train of the split"),
    ],
)
def test_refuses_a_file_that_is_no_split(tmp_path, content, message) -> None:
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(CaseError, match=message) as caught:
        read_split(tmp_path / "split.json", CASES)
    assert str(tmp_path / "split.json") in str(caught.value)


def test_a_part_may_be_empty(tmp_path) -> None:
    """As an external test set has it, or fractions of 0; who asks for the empty part is told."""
    split = {"train": [], "validation": [], "test": list(CASES)}
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json", CASES) == split


@pytest.mark.parametrize("fractions", [(0.6, 0.4), (0.6, 0.3, 0.3), (1.2, -0.1, -0.1)])
def test_refuses_fractions(fractions) -> None:
    with pytest.raises(ValueError, match="three non-negative numbers that sum to 1, got"):
        split_cases(CASES, fractions)


def test_refuses_empty_list() -> None:
    with pytest.raises(CaseError, match="datalist is empty"):
        split_cases([])


@pytest.mark.parametrize(("share", "persons"), [(1.0, 10), (0.5, 5), (0.25, 2), (0.01, 1)])
def test_a_share_keeps_whole_persons(share, persons) -> None:
    """Also of cases that came with a split; a smaller share lies within a larger one."""
    cases = [case | {"split": "train"} for case in CASES]
    kept = share_of_cases(cases, share)
    assert len(kept) == 2 * persons
    assert len({case["subject"] for case in kept}) == persons
    assert kept == [case for case in cases if case in kept]
    larger = share_of_cases(cases[::-1], min(1.0, 2 * share))
    assert all(case in larger for case in kept)
    assert share == 1 or share_of_cases(cases, share, seed=1) != kept


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_refuses_a_share(share) -> None:
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got"):
        share_of_cases(CASES, share)


def write_tables(folder, **ids) -> None:
    for part, names in ids.items():
        rows = [
            "id,flair,seg",
            *(f"HGG/{name}/{name},<path>/{name}_flair.nii.gz,<path>/{name}_seg.nii.gz" for name in names),
        ]
        (folder / f"data_index_{part}.csv").write_text("\n".join(rows) + "\n")


def test_tables_of_the_authors_are_read(tmp_path) -> None:
    """The name behind the last slash; cases that no table names are left out."""
    write_tables(tmp_path, train=["1_0", "0_0"], valid=["2_0"], test=["3_1"])
    split = read_split(tmp_path, CASES)
    found = {part: [case["patient"] for case in cases] for part, cases in split.items()}
    assert found == {"train": ["1_0", "0_0"], "validation": ["2_0"], "test": ["3_1"]}
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json", CASES) == split


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"train": ["0_0"], "valid": []}, r"data_index_test.csv is not there; a folder must hold a table of each"),
        ({"train": [], "valid": [], "test": []}, "the tables in .* hold no patient"),
        ({"train": ["0_0"], "valid": ["0_0"], "test": []}, "patient 0_0 lies in train and in validation"),
        ({"train": ["Brats17_1"], "valid": [], "test": []}, "patient Brats17_1 of the split .* is not in the data set"),
    ],
)
def test_refuses_tables(tmp_path, ids, message) -> None:
    write_tables(tmp_path, **ids)
    with pytest.raises(CaseError, match=message):
        read_split(tmp_path, CASES)


def test_refuses_a_table_without_ids(tmp_path) -> None:
    write_tables(tmp_path, train=["0_0"], valid=[], test=[])
    (tmp_path / "data_index_train.csv").write_text("name,flair\n0_0,a\n")
    with pytest.raises(CaseError, match=r"data_index_train.csv must have a column id, and a value in each row"):
        read_split(tmp_path, CASES)
