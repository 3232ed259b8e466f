# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from tiny_training import make_network, make_trainer

from monai_stochseg.handlers import WeightsLoader, load_weights


def _states_equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def _changed_network():
    network = make_network()
    with torch.no_grad():
        network[0].weight.add_(1)
    return network


def test_loads_all_weights_and_returns_the_rest(tmp_path):
    trained, network = _changed_network(), make_network()
    torch.save({"network": trained.state_dict(), "epoch": 7}, tmp_path / "model.pt")
    assert load_weights(network, tmp_path / "model.pt") == {"epoch": 7}
    assert _states_equal(network, trained)


def test_a_file_that_is_a_state_itself(tmp_path):
    trained, network = _changed_network(), make_network()
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    assert load_weights(network, tmp_path / "model.pt", key=None) == {}
    assert _states_equal(network, trained)


def test_handler_loads_when_the_run_starts(tmp_path):
    trained, network = _changed_network(), make_network()
    torch.save({"network": trained.state_dict()}, tmp_path / "model.pt")
    trainer = make_trainer([WeightsLoader(network, tmp_path / "model.pt")], network=network, max_epochs=1)
    trainer.network = trained  # so that nothing trains the loaded one
    trainer.optimizer = torch.optim.SGD(trained.parameters(), lr=0.0)
    assert not _states_equal(network[0], trained[0])
    trainer.run()
    assert _states_equal(network[0], trained[0])


def test_another_architecture_is_one_clear_line_and_changes_nothing(tmp_path):
    torch.save({"network": make_network(channels=8).state_dict()}, tmp_path / "model.pt")
    network, untouched = make_network(), make_network()
    with pytest.raises(ValueError, match=r"model.pt was saved from another architecture than this Sequential") as error:
        load_weights(network, tmp_path / "model.pt")
    assert "0.weight: (8, 1, 3, 3) in the file, (4, 1, 3, 3) in the network" in str(error.value)
    assert "\n" not in str(error.value)
    assert _states_equal(network, untouched)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.bias"), r"1 entries differ, first 0.bias: absent in the file, \(4,\) in the network"),
        (lambda s: s.update(more=torch.ones(2)), r"more: \(2,\) in the file, absent in the network"),
    ],
)
def test_missing_and_unexpected_entries(tmp_path, change, message):
    state = make_network().state_dict()
    change(state)
    torch.save({"network": state}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        load_weights(make_network(), tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "no checkpoint at .*model.pt: train first"),
        (b"no checkpoint", ValueError, "model.pt is not a checkpoint that torch.load"),
        (b"", ValueError, "model.pt is not a checkpoint that torch.load"),
        ([1, 2], ValueError, "model.pt holds a list, a checkpoint is a dictionary"),
        ({"model": {}, "epoch": 1}, ValueError, r"model.pt has no entry 'network', but \['epoch', 'model'\]"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, content, error, message):
    path = tmp_path / "model.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(error, match=message):
        load_weights(make_network(), path)


def _damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[len(content) // 2 :]
    elif how == "empty":
        content.clear()
    elif how == "garbage":
        content[:] = b"no checkpoint" * 100
    else:  # one bit of a weight
        weight = make_network()[0].weight.detach().numpy().tobytes()
        content[content.index(weight) + 3] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", r"model.pt is not a checkpoint that .* can read, or a part of it is missing"),
        ("empty", "model.pt is not a checkpoint"),
        ("garbage", "model.pt is not a checkpoint"),
        ("a bit", r"model.pt is damaged, the checksum of its entry model/data/\d is wrong: copy it again"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, how, message):
    path = tmp_path / "model.pt"
    torch.save({"network": make_network().state_dict()}, path)
    _damage(path, how)
    network, untouched = make_network(), make_network()
    with pytest.raises(ValueError, match=message) as error:
        load_weights(network, path)
    assert "\n" not in str(error.value)
    assert _states_equal(network, untouched)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    bad = make_network()
    with torch.no_grad():
        bad[4].weight[0] = torch.nan
    torch.save({"network": bad.state_dict()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model.pt has weights that are not finite, 1 entries, first 4.weight: copy"):
        load_weights(make_network(), tmp_path / "model.pt")


def test_what_is_no_dictionary_of_weights_is_refused(tmp_path):
    torch.save({"network": 3}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model.pt holds a int where the weights should be"):
        load_weights(make_network(), tmp_path / "model.pt")


def test_torchs_old_format_is_read(tmp_path):
    torch.save({"network": _changed_network().state_dict()}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    network = make_network()
    load_weights(network, tmp_path / "m.pt")
    assert _states_equal(network, _changed_network())
