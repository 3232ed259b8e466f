# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_stochseg.data import CaseError
from monai_stochseg.data.patterns import match_pattern, pattern_fields


@pytest.mark.parametrize(
    ("pattern", "file", "fields"),
    [
        ("{case}/image.nii*", "/d/c1/image.nii.gz", {"case": "c1"}),
        ("{case}/image.nii*", "c1/image.nii", {"case": "c1"}),
        ("imagesTr/{case}_{modality}.nii.gz", "imagesTr/a_b_0000.nii.gz", {"case": "a_b", "modality": "0000"}),
        ("{case}/{case}-{modality}.nii*", "x/a-1/a-1-t2f.nii.gz", {"case": "a-1", "modality": "t2f"}),
        ("readers/{rater}/{case}.p?g", "readers/Ada/p 1.png", {"rater": "Ada", "case": "p 1"}),
        ("{subject}/{case}.[x].png", "s/c.[x].png", {"subject": "s", "case": "c"}),
    ],
)
def test_names_stand_for_parts_of_a_path(pattern: str, file: str, fields: dict) -> None:
    assert [match.fields for match in match_pattern(pattern, [file, "other/thing.txt"])] == [fields]


@pytest.mark.parametrize(
    ("pattern", "file"),
    [
        ("{case}/{case}_t1.nii", "a/b_t1.nii"),  # the same name must stand for the same
        ("{case}/image.nii*", "image.nii"),  # a name is never empty
        ("images/{case}.png", "images/sub/p.png"),  # nor does it reach over a folder
        ("image.nii", "my_image.nii"),  # a pattern begins with a path component
        ("a.nii", "axnii"),
    ],
)
def test_what_does_not_fit(pattern: str, file: str) -> None:
    assert match_pattern(pattern, [file]) == []


def test_known_values_decide_where_a_name_ends() -> None:
    (match,) = match_pattern("{case}_{modality}.nii", ["a_t1_ce.nii"], {"modality": ["ce_t1", "t1_ce"]})
    assert match.fields == {"case": "a", "modality": "t1_ce"}
    assert match_pattern("{case}_{modality}.nii", ["a_t2.nii"], {"modality": ["t1_ce"]}) == []


def test_a_misspelt_name_is_refused() -> None:
    with pytest.raises(CaseError, match=r"names \{patient\}; it may name case, modality"):
        pattern_fields("{patient}/{rater}.png")
