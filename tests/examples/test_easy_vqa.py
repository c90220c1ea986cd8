"""Questions about pictures, on a small file in the layout of easy-VQA."""

import json
import sys
import zipfile

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('transformers')

from examples import easy_vqa
from examples.easy_vqa import VQA, EasyVQA, Words, change_priors, read

COLOURS = dict(red=(255, 0, 0), green=(0, 255, 0), blue=(0, 0, 255))


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Pictures of one colour: what colour is it, and is it that one?"""
    path = tmp_path_factory.mktemp('vqa') / 'easy_vqa-1.0-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as file:
        for split, number in (('train', 24), ('test', 6)):
            questions = []
            for i in range(number):
                name, rgb = list(COLOURS.items())[i % 3]
                image = np.full((64, 64, 3), rgb[::-1], 'uint8')
                root = f'easy_vqa/data/{split}'
                data = cv2.imencode('.png', image)[1].tobytes()
                file.writestr(f'{root}/images/{i}.png', data)
                questions.append(['what color is it?', name, i])
                answer = 'yes' if name == 'red' else 'no'
                questions.append(['is it red?', answer, i])
            file.writestr(f'{root}/questions.json', json.dumps(questions))
    return path


def test_read(wheel):
    questions, images = read(wheel, 'test')
    assert questions[3] == ('is it red?', 'no', 1)
    assert len(images) == 6
    assert images[2][5, 7].tolist() == [0, 0, 255]


def test_words(wheel):
    words = Words(read(wheel, 'train')[0])
    assert words.ids == dict(color=3, **{'is': 4}, it=5, red=6, what=7)
    assert words('is it blue?') == [2, 4, 5, 1, 0]
    assert words('is it red or is it blue?') == [2, 4, 5, 6, 1]


def test_priors():
    questions = [('is it?', a, i) for i in range(500) for a in ('no', 'yes')]
    counts = []
    for test in (False, True):
        kept = change_priors(questions, 0.1, test)
        answers = [a for _, a, _ in kept]
        counts.append([answers.count(a) for a in ('no', 'yes')])
    (few, many), other = sorted(counts[0]), counts[1]
    assert many == 500 and 30 < few < 75
    # The usual answer is the other one.
    assert np.argmax(counts[0]) != np.argmax(other)
    assert max(other) == 500 and 30 < min(other) < 75


@pytest.mark.parametrize('form', ['none', 'ft_same'])
def test_it_reads_question_and_picture(wheel, form):
    questions, images = read(wheel, 'train')
    words = Words(questions)
    answers = sorted({q[1] for q in questions})
    data = EasyVQA(questions, images, words, answers)
    torch.manual_seed(0)
    model = VQA(len(words.ids) + 3, len(answers), form, False, entries=8)
    if form != 'none':
        pytest.importorskip('sklearn')
        model.start_dictionaries(data, samples=12)
        assert model.lxmert.lxmert.encoder.MV.std() > 0.05
    batch = torch.utils.data.default_collate([data[i] for i in range(6)])
    model.eval()
    logits = model(**batch)
    # Padding says nothing.
    longer = torch.cat([batch['words'], torch.zeros(6, 2).long()], 1)
    torch.testing.assert_close(model(**batch | dict(words=longer)), logits)
    other = model(**batch | dict(image=batch['image'].flip(0)))
    assert (other - logits).abs().max() > 1e-4
    optim = torch.optim.AdamW(model.parameters(), 3e-3)
    model.train()
    batch = torch.utils.data.default_collate([data[i] for i in range(18)])
    for _ in range(25):
        optim.zero_grad()
        model(**batch, mode='loss')['loss'].backward()
        optim.step()
    right = [
        got == want for got, want in model.eval()(**batch, mode='predict')
    ]
    assert np.mean(right) > 0.9


def test_command(wheel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ['easy_vqa', str(wheel), '--form', 'ft', '--epochs', '1']
    monkeypatch.setattr(sys, 'argv', argv)
    easy_vqa.main()
    (log,) = tmp_path.glob('work_dirs/easy_vqa/*/*.log')
    assert 'accuracy of shapes and colours:' in log.read_text()
