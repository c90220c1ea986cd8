"""Answer questions about pictures, by LXMERT with and without CATT.

    pip install mmea[onedl-det,lxmert]  # not beside mmpretrain
    python -m examples.easy_vqa easy_vqa-1.0-py3-none-any.whl --form ft
    python -m examples.easy_vqa easy_vqa-1.0-py3-none-any.whl --form none

The data are easy-VQA's: pictures of 64 x 64 pixels with one shape, questions,
13 answers. Words are those of the training questions, regions the cells of a
grid of a small network that is trained along. Two splits are tested: the
published one, and `--split priors`, in which the usual answer to a question is
another in training than in the test: what a model learns of the question alone
is wrong there.
"""

import argparse
import json
import random
import zipfile
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import LxmertConfig, LxmertForQuestionAnswering

from examples.lxmert_catt import FORMS, add_catt, kmeans_dictionary

Question = tuple[str, str, int]  # text, answer, picture


def read(
    file: Path, split: str
) -> tuple[list[Question], dict[int, np.ndarray]]:
    """Read the questions and the pictures, RGB, of 'train' or 'test'."""
    with zipfile.ZipFile(file) as wheel:
        root = f'easy_vqa/data/{split}'
        questions = json.loads(wheel.read(f'{root}/questions.json'))
        images = {}
        for i in sorted({q[2] for q in questions}):
            data = np.frombuffer(wheel.read(f'{root}/images/{i}.png'), 'uint8')
            images[i] = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    return [tuple(q) for q in questions], images


def change_priors(
    questions: list[Question], kept: float, test: bool, seed: int = 0
) -> list[Question]:
    """Leave out answers, so that the usual one to a question is another.

    Of each question (its words) half of the answers, drawn with the seed, are
    usual in training and the others in the test; of the unusual ones a share
    ``kept`` is left.
    """
    answers = defaultdict(set)
    for text, answer, _ in questions:
        answers[text].add(answer)
    usual = set()
    for text in sorted(answers):
        order = sorted(answers[text])
        random.Random(f'{seed} {text}').shuffle(order)
        usual |= {(text, a) for a in order[: (len(order) + 1) // 2]}
    draw = random.Random(seed)
    return [
        q
        for q in questions
        if ((q[:2] in usual) != test) or draw.random() < kept
    ]


class Words:
    """Numbers of words; 0 is padding, 1 any other, 2 the start."""

    def __init__(self, questions: list[Question]) -> None:
        words = {w for q in questions for w in self.split(q[0])}
        self.ids = {w: i + 3 for i, w in enumerate(sorted(words))}
        self.length = 1 + max(len(self.split(q[0])) for q in questions)

    @staticmethod
    def split(text: str) -> list[str]:
        return text.rstrip('?').split()

    def __call__(self, text: str) -> list[int]:
        ids = [2, *(self.ids.get(w, 1) for w in self.split(text))]
        return (ids + [0] * self.length)[: self.length]


class EasyVQA(Dataset):
    """Questions with their pictures, as tensors."""

    def __init__(
        self,
        questions: list[Question],
        images: dict[int, np.ndarray],
        words: Words,
        answers: list[str],
    ) -> None:
        self.questions, self.images = questions, images
        self.words, self.answers = words, answers

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> dict:
        text, answer, picture = self.questions[index]
        image = torch.from_numpy(self.images[picture]).permute(2, 0, 1)
        return dict(
            words=torch.tensor(self.words(text)),
            image=image / 127.5 - 1,
            answer=self.answers.index(answer),
        )


class VQA(BaseModel):
    """LXMERT over the cells of a small network, with CATT or without.

    Args:
        num_words (int): Different words, with the three of their own.
        num_answers (int): Answers.
        form (str): 'none', or of :class:`examples.lxmert_catt.CATTEncoder`.
        published (bool): Of that class too.
        entries (int): Of both dictionaries.
    """

    def __init__(
        self,
        num_words: int,
        num_answers: int,
        form: str,
        published: bool,
        entries: int = 64,
    ) -> None:
        super().__init__()
        width = 64
        self.grid = nn.Sequential(
            *(
                layer
                for i, o in ((3, 32), (32, 64), (64, width))
                for layer in (
                    nn.Conv2d(i, o, 3, 2, 1, bias=False),
                    nn.BatchNorm2d(o),
                    nn.ReLU(),
                )
            )
        )
        config = LxmertConfig(
            vocab_size=num_words,
            num_qa_labels=num_answers,
            hidden_size=width,
            intermediate_size=2 * width,
            num_attention_heads=4,
            l_layers=2,
            r_layers=2,
            x_layers=2,
            visual_feat_dim=width,
            visual_pos_dim=4,
            max_position_embeddings=32,
        )
        self.lxmert = LxmertForQuestionAnswering(config)
        if form != 'none':
            add_catt(
                self.lxmert.lxmert,
                form=form,
                published=published,
                lang_size=entries,
                visn_size=entries,
            )

    def regions(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return cells (B, N, C) and their boxes (B, N, 4) in [0, 1]."""
        x = self.grid(image)
        height, width = x.shape[-2:]
        y, z = torch.meshgrid(
            torch.arange(height), torch.arange(width), indexing='ij'
        )
        boxes = torch.stack([z / width, y / height], 2).flatten(0, 1).to(x)
        far = boxes + boxes.new_tensor([1 / width, 1 / height])
        boxes = torch.cat([boxes, far], 1).expand(len(x), -1, -1)
        return x.flatten(2).transpose(1, 2), boxes

    def forward(
        self,
        words: Tensor,
        image: Tensor,
        answer: Tensor,
        mode: str = 'tensor',
    ) -> Tensor | dict | list:
        cells, boxes = self.regions(image)
        logits = self.lxmert(
            input_ids=words,
            attention_mask=(words > 0).long(),
            visual_feats=cells,
            visual_pos=boxes,
        ).question_answering_score
        if mode == 'loss':
            return dict(loss=F.cross_entropy(logits, answer))
        if mode == 'predict':
            return list(zip(logits.argmax(1).tolist(), answer.tolist()))
        return logits

    @torch.no_grad()
    def start_dictionaries(self, dataset: EasyVQA, samples: int = 500) -> None:
        """Fill both dictionaries with centres of embedded training tokens."""
        model = self.lxmert.lxmert
        samples = min(samples, len(dataset))
        picked = random.Random(0).sample(range(len(dataset)), samples)
        batch = torch.utils.data.default_collate([dataset[i] for i in picked])
        cells, boxes = self.eval().regions(batch['image'])
        words = batch['words']
        tokens = dict(
            ML=model.embeddings(words, torch.zeros_like(words))[words > 0],
            MV=model.encoder.visn_fc(cells, boxes).flatten(0, 1),
        )
        for name, found in tokens.items():
            place = getattr(model.encoder, name)
            place.copy_(kmeans_dictionary(found, place.shape[1]))


class AnswerAccuracy(BaseMetric):
    """Per cent of right answers: of all, and of all but yes and no."""

    def __init__(self, answers: list[str]) -> None:
        super().__init__()
        self.short = {answers.index('yes'), answers.index('no')}

    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results += data_samples

    def compute_metrics(self, results: list) -> dict[str, float]:
        right = [got == want for got, want in results]
        other = [g == w for g, w in results if w not in self.short]
        return {
            'accuracy': 100 * float(np.mean(right)),
            'accuracy of shapes and colours': 100 * float(np.mean(other)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('wheel', type=Path, help='easy_vqa-1.0-...whl')
    parser.add_argument('--form', default='ft', choices=('none', *FORMS))
    parser.add_argument(
        '--pass-on', action='store_true', help='published=False'
    )
    parser.add_argument('--kmeans', action='store_true', help='dictionaries')
    parser.add_argument(
        '--split', default='published', choices=('published', 'priors')
    )
    parser.add_argument('--kept', type=float, default=0.1)
    parser.add_argument('--epochs', type=int, default=10)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--work-dir', default='work_dirs/easy_vqa')
    args = parser.parse_args()

    questions, sets = {}, {}
    answers = set()
    for split in ('train', 'test'):
        questions[split], images = read(args.wheel, split)
        answers |= {q[1] for q in questions[split]}
        if args.split == 'priors':
            questions[split] = change_priors(
                questions[split], args.kept, split == 'test'
            )
        sets[split] = images
    words = Words(questions['train'])
    answers = sorted(answers)
    train, test = (
        EasyVQA(questions[s], sets[s], words, answers) for s in sets
    )
    torch.manual_seed(args.seed)
    model = VQA(len(words.ids) + 3, len(answers), args.form, not args.pass_on)
    if args.kmeans:
        model.start_dictionaries(train)

    def loader(dataset: Dataset, shuffle: bool) -> dict:
        return dict(
            dataset=dataset,
            batch_size=64,
            sampler=dict(type='DefaultSampler', shuffle=shuffle),
            collate_fn=dict(type='default_collate'),
        )

    runner = Runner(
        model,
        args.work_dir,
        train_dataloader=loader(train, True),
        val_dataloader=loader(test, False),
        train_cfg=dict(by_epoch=True, max_epochs=args.epochs),
        val_cfg=dict(),
        val_evaluator=Evaluator(AnswerAccuracy(answers)),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
            clip_grad=dict(max_norm=1.0),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=200),
            dict(
                type='CosineAnnealingLR',
                T_max=args.epochs,
                convert_to_iter_based=True,
            ),
        ],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=100),
            checkpoint=dict(type='CheckpointHook', max_keep_ckpts=1),
        ),
        randomness=dict(seed=args.seed),
    )
    runner.train()


if __name__ == '__main__':
    main()
