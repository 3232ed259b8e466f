# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys

import pytest
import torch
from monai.networks.nets import UNet

from monai_stochseg.bundle import Options, end_run, find_bundle, prepare_network, select_device, start_run
from monai_stochseg.bundle.errors import explain_errors


def test_the_bundle_is_found_from_anywhere(tmp_path, monkeypatch, repository):
    expected = str(repository / "bundles" / "ssn_brats")
    for folder in (repository, tmp_path, repository / "bundles" / "ssn_brats"):
        monkeypatch.chdir(folder)
        assert find_bundle("ssn_brats") == expected
    with pytest.raises(FileNotFoundError, match=r"bundle nothing is in none of .* copies one"):
        find_bundle("nothing")


def test_start_prepare_and_end():
    device = select_device()
    start_run(device, seed=3)
    drawn = torch.rand(2)
    start_run(device, seed=3)  # twice does no harm
    assert torch.equal(torch.rand(2), drawn)
    net = prepare_network(UNet(2, 1, 2, (4, 8), (2,)), device)
    assert next(net.parameters()).device.type == device.type
    if device.type == "cuda":
        assert net.model[0].conv.unit0.conv.weight.is_contiguous(memory_format=torch.channels_last)
    end_run()


def test_the_first_cause_stands_last(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    explain_errors()
    try:
        try:
            raise ValueError("patient 7: NaN")
        except ValueError as error:
            raise RuntimeError("Failed to evaluate") from error
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1] == "ValueError: patient 7: NaN"
    assert any("Failed to evaluate" in line for line in lines)


def test_ctrl_c_ends_with_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    explain_errors()
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "Interrupted.\n"


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_a_device_may_be_a_name(device):
    start_run(device)
    assert Options("out", device).device == torch.device("cpu")
    assert next(prepare_network(torch.nn.Linear(1, 1), device).parameters()).device == torch.device("cpu")
    end_run()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ValueError, match=f"device '{device}' is not there: this machine has cpu"):
        start_run(device)


def test_engines_run_in_bfloat16_only_where_it_is_told_or_there(monkeypatch):
    assert Options("out", "cpu").engine == {
        "device": torch.device("cpu"),
        "amp": False,
        "amp_kwargs": {"dtype": torch.bfloat16},
    }
    assert Options("out", amp=True).engine["amp"]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert Options("out", "cuda:0").engine["amp"]
    assert not Options("out", "cuda:0", amp=False).engine["amp"]
