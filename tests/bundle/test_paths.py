# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import pytest
from bundle_runs import BUNDLES, first_cause, make_workflow

from monai_stochseg.bundle import Options, save_predictions
from monai_stochseg.bundle.overrides import check_overrides


def test_a_folder_that_a_configuration_has_changed_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"output_dir is '/data/a::b': MONAI's configurations read '#' as '::'"):
        Options("/data/a::b")
    with pytest.raises(ValueError, match=r"output_dir is '/data/a::b'"):
        save_predictions("/data/a::b", None, SimpleNamespace(spatial_dims=3, num_classes=2, regions={"a": (1,)}))


def test_of_a_workflow(folders, tmp_path):
    output = tmp_path / "run#1"
    parser = make_workflow("ssn_lidc", dataset_dir=folders["lidc"], output_dir=str(output)).parser
    with pytest.raises(ValueError, match="run::1': MONAI's configurations read"), first_cause():
        parser.get_parsed_content("options")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["/data/a#b", "['/data/a', '/data/a#b']", "{'a': '/data/a#b'}"])
@pytest.mark.parametrize("name", ["dataset_dir", "output_dir", "checkpoint"])
def test_of_the_command_line(name, value):
    command = ["/x/monai/bundle/__main__.py", "run", "--config_file", str(BUNDLES / "ssn_lidc" / "train.json")]
    with pytest.raises(ValueError, match=rf"--{name} /data/a#b: MONAI reads '#' as '::'.* Give one without '#'"):
        check_overrides([*command, f"--{name}", value])
    check_overrides([*command, f"--{name}", "$'/data/a' + chr(35) + 'b'"])
    check_overrides([*command, f"--{name}", "@task#name"])
