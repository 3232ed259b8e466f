# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from monai_stochseg.bundle.overrides import check_overrides

CONFIG = {"epochs": 3, "amp": True, "net": {"_target_": "UNet", "channels": [8, 16]}, "run": ["$1"]}


@pytest.fixture
def command(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(CONFIG))

    def make(*args: str, program: str = "/x/monai/bundle/__main__.py") -> list[str]:
        return [program, "run", "--config_file", str(path), *args]

    return make


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--epochs", "5"),
        ("--epochs=5", "--amp", "False"),
        ("--net#channels", "[4, 8]"),
        ("--net::channels#1", "32"),
        ("--net#norm", "batch"),  # a component may take another argument
        ("--run_id", "run", "--tracking", "mlflow"),
        ("--amp", "$1 < 2"),
        ("--epochs", "-1"),
    ],
)
def test_accepts(command, args):
    check_overrides(command(*args))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--epoch", "5"), r"--epoch: the configuration has no id epoch; did you mean epochs\?"),
        (("--zzz=1",), r"has no id zzz; known there: amp, epochs, net, run\."),
        (("--nett#channels", "[1]"), r"no id nett; did you mean net\?"),
        (("--net#chanels#0", "1"), r"no id net#chanels; did you mean channels\?"),
        (("--net#channels#2", "1"), "no id net#channels#2"),
        (("--amp", "false"), "--amp false is text and not a value: write --amp False"),
        (("--amp=none",), r"write --amp '\$None'"),
        (("--amp", "None"), r"--amp None is dropped by MONAI, and the default would stay: write --amp '\$None'"),
        (("--max-epoch", "1"), "no id max_epoch"),
        (("-epoch", "1"), "no id epoch"),
    ],
)
def test_refuses(command, args, message):
    with pytest.raises(ValueError, match=message):
        check_overrides(command(*args))


def test_overlays_and_args_files_are_read(tmp_path, command):
    overlay, defaults = tmp_path / "more.json", tmp_path / "args.json"
    overlay.write_text(json.dumps({"extra": 1}))
    train = command()[3]
    defaults.write_text(json.dumps({"config_file": [train, str(overlay)], "extra": 2}))
    program = command()[0]
    check_overrides([program, "run", "--config_file", f"['{train}','{overlay}']", "--extra", "2"])
    check_overrides([program, "run", "--args_file", str(defaults)])
    with pytest.raises(ValueError, match="no id extra"):
        check_overrides([program, "run", "--args_file", str(defaults), "--config_file", train])


def test_hyphens_are_fires_underscores(command):
    program, run, _, path = command()
    with pytest.raises(ValueError, match="no id zzz"):
        check_overrides([program, run, "--config-file", path, "--zzz", "1"])


def test_other_commands_are_left_alone(command):
    check_overrides(command("--unknown", "1", program="/usr/bin/pytest"))
    check_overrides(["prog"])
