from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import mmea
from mmea.errors import UserError
from mmea.inference.inputs import Input
from mmea.layers import ExternalAttention2d, SelfAttention2d, StandAloneStem2d
from mmea.visualize import files
from mmea.visualize.files import chosen, draw_files


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = StandAloneStem2d(4)
        self.twice = ExternalAttention2d(4)
        self.never = SelfAttention2d(4)
        self.mask_head = ExternalAttention2d(4)
        self.mask_head.padded = False  # as build_attention sets it

    def forward(self, x):
        return self.mask_head(self.twice(self.twice(self.stem(x))))


def choose(model, layers=None):
    maps = mmea.attention_maps(model, torch.randn(1, 4, 5, 6))
    cfg = SimpleNamespace(filename='x.py')
    predictor = SimpleNamespace(model=model, cfg=cfg)
    left_out = {}
    found = list(chosen(predictor, maps, layers, left_out))
    return [part[:2] for part in found], list(left_out)


def test_what_is_drawn_and_what_is_not():
    found, left_out = choose(Net())
    assert found == [('twice', 1), ('twice', 2)]
    assert left_out == [
        'stem: its pixels read the few in their block alone',
        'never: not called in a prediction',
        'mask_head: its maps are of regions, not of the photograph',
    ]
    assert choose(Net(), ['twice'])[1] == []


def test_each_call_has_a_title_of_its_own(tmp_path, monkeypatch):
    """As the levels of a neck that share one layer."""
    titles, names = [], []
    monkeypatch.setattr(
        files,
        'draw_page',
        lambda *args, title, num_slots: titles.append(title),
    )
    monkeypatch.setattr(
        files, 'save_page', lambda figure, path: names.append(path.name)
    )
    maps = mmea.attention_maps(Net(), torch.randn(1, 4, 5, 6))
    view = SimpleNamespace(maps=maps)
    monkeypatch.setattr(files, 'look', lambda *args, **kwargs: view)
    predictor = SimpleNamespace(model=Net(), cfg=None)
    draw_files(predictor, [Input(tmp_path / 'a.jpg', Path('a.jpg'))], tmp_path)
    assert titles == ['twice', 'twice, call 2']
    assert names == ['twice.png', 'twice-2.png']


def test_nothing_to_draw():
    words = 'x.py has no attention layer of mmea: nothing to draw'
    with pytest.raises(UserError, match=words):
        choose(nn.Conv2d(4, 4, 1))
    words = '--layers twise: no such attention layer; there is twice'
    with pytest.raises(UserError, match=words):
        choose(Net(), ['twise'])
