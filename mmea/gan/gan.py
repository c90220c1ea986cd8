from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import (
    all_reduce_dict,
    all_reduce_params,
    get_rank,
    get_world_size,
)
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapperDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.layers._checks import check_int, check_positive
from mmea.registry import MODELS

from .noise import draw_noise, to_pixels

__all__ = ['GAN']


@MODELS.register_module()
class GAN(BaseModel):
    """A generator and a discriminator that train against each other.

    An iteration, one batch of the data loader, is ``discriminator_steps``
    steps of the discriminator, each with its own part of the batch, and then
    one of the generator. The losses are hinges:

        L_D = mean relu(1 - D(x)) + mean relu(1 + D(G(z)))
        L_G = -mean D(G(z))

    The noise of an iteration is drawn from ``seed`` and the iteration's
    number, which is in the checkpoints: a resumed training goes on with the
    noise that it would have had, and a GPU gets what a CPU gets. Of several
    processes (:class:`GANDistributed`) each has its share of that noise, and
    gradients are averaged, so that they train as one process with all of
    their batches does, but for the generator's batch norms, whose statistics
    are those of a process unless ``sync_bn`` shares them.

    Args:
        generator (dict): Of a network of noise and labels with
            ``noise_channels``, ``num_classes`` and ``img_size``, such as
            ``dict(type='mmea.SAGANGenerator')``.
        discriminator (dict): Of one of images and labels, of the same size
            and classes.
        discriminator_steps (int): Default: 1.
        seed (int): Of the noise. Default: 0.
        data_preprocessor (dict | nn.Module | None): Default: None, one that
            takes values of 0 to 255 to -1 to 1.

    Raises:
        ValueError: A number is out of its range, or the two networks differ
            in size or classes.

    Source: arXiv:1805.08318; the order of steps as in StudioGAN.
    """

    def __init__(
        self,
        generator: dict,
        discriminator: dict,
        *,
        discriminator_steps: int = 1,
        seed: int = 0,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(
            data_preprocessor
            or dict(
                type='mmengine.ImgDataPreprocessor',
                mean=[127.5] * 3,
                std=[127.5] * 3,
            )
        )
        check_positive(discriminator_steps=discriminator_steps)
        check_int(0, seed=seed)
        self.generator = MODELS.build(generator)
        self.discriminator = MODELS.build(discriminator)
        for name in ('img_size', 'num_classes'):
            ours, theirs = (
                getattr(net, name)
                for net in (self.generator, self.discriminator)
            )
            if ours != theirs:
                raise ValueError(
                    f'generator and discriminator differ in {name}: {ours} '
                    f'and {theirs}'
                )
        self.discriminator_steps = discriminator_steps
        self.seed = seed
        self.iteration: Tensor
        self.register_buffer('iteration', torch.zeros((), dtype=torch.int64))

    def train_step(
        self, data: dict | tuple | list, optim_wrapper: OptimWrapperDict
    ) -> dict[str, Tensor]:
        """Train both networks on one batch.

        Args:
            data (dict): ``inputs``, images (3, H, W), and ``data_samples``
                with ``gt_label``, in a multiple of ``discriminator_steps``.
            optim_wrapper (OptimWrapperDict): With ``generator`` and
                ``discriminator``, as :class:`GANOptimWrapperConstructor`
                makes it.

        Returns:
            dict[str, Tensor]: ``loss_discriminator`` and the mean scores
            ``real_score`` and ``fake_score`` of its last step, and
            ``loss_generator``; ``loss`` is the sum of both.

        Raises:
            UserError: The batch does not fit the networks.
        """
        images, labels = self._read(data)
        parts = self.discriminator_steps
        number, rank = len(images) // parts, get_rank()
        own = slice(rank * number, (rank + 1) * number)
        draws = (
            (noise[own], classes[own])
            for noise, classes in draw_noise(
                (self.seed, int(self.iteration)),
                [number * get_world_size()] * (parts + 1),
                self.generator.noise_channels,
                self.generator.num_classes,
            )
        )
        logs = {}
        for real, classes in zip(images.chunk(parts), labels.chunk(parts)):
            logs = self._train_discriminator(
                real, classes, *next(draws), optim_wrapper['discriminator']
            )
        logs |= self._train_generator(*next(draws), optim_wrapper['generator'])
        all_reduce_dict(logs, 'mean')
        self.iteration += 1
        # What the console and early stopping look for.
        loss = logs['loss_discriminator'] + logs['loss_generator']
        return dict(loss=loss, **logs)

    def _train_discriminator(
        self,
        real: Tensor,
        classes: Tensor,
        noise: Tensor,
        fake_classes: Tensor,
        optim_wrapper: Any,
    ) -> dict[str, Tensor]:
        with optim_wrapper.optim_context(self.discriminator):
            with torch.no_grad():
                fake = self._generate(noise, fake_classes)
            real_score = _widen(self.discriminator(real, classes))
            fake_classes = fake_classes.to(real.device)
            fake_score = _widen(self.discriminator(fake, fake_classes))
            loss = F.relu(1 - real_score).mean()
            loss = loss + F.relu(1 + fake_score).mean()
        _update(optim_wrapper, self.discriminator, loss)
        return dict(
            loss_discriminator=loss.detach(),
            real_score=real_score.detach().mean(),
            fake_score=fake_score.detach().mean(),
        )

    def _train_generator(
        self, noise: Tensor, classes: Tensor, optim_wrapper: Any
    ) -> dict[str, Tensor]:
        with optim_wrapper.optim_context(self.generator):
            with _frozen(self.discriminator):
                fake = self._generate(noise, classes)
                classes = classes.to(fake.device)
                loss = -_widen(self.discriminator(fake, classes)).mean()
        _update(optim_wrapper, self.generator, loss)
        return dict(loss_generator=loss.detach())

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that it makes."""
        size: Any = self.generator.img_size
        return size, size

    def forward(
        self,
        inputs: Any = None,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | Sequence[BaseDataElement]:
        """Make an image of the class of each data sample.

        Args:
            inputs (Any): Real images, of which only the number is read, and
                only where there are no data samples.
            data_samples (Sequence[BaseDataElement] | None): ``gt_label``.
                Default: None, classes by chance.
            mode (str): 'tensor' for images (B, 3, H, W) from -1 to 1,
                'predict' for the data samples with ``pred_img``, uint8 (3, H,
                W). Default: 'tensor'.
        """
        if mode not in ('tensor', 'predict'):
            raise ValueError(
                f"mode must be tensor or predict, got {mode=}; a GAN's losses "
                'are in its train_step(), which several processes call by '
                "model_wrapper_cfg=dict(type='mmea.GANDistributed')"
            )
        if data_samples is None:
            data_samples = [BaseDataElement() for _ in inputs]
            labels = None
        else:
            labels = _labels(data_samples)
        images = self.generate(
            len(data_samples), labels, noise=self._noise_of(data_samples)
        )
        if mode == 'tensor':
            return images
        for sample, image in zip(data_samples, to_pixels(images)):
            sample.set_data(dict(pred_img=image))
        return data_samples

    def _noise_of(self, samples: Sequence[BaseDataElement]) -> Tensor | None:
        """Draw the noise of samples that have a place in their data set.

        The same in every validation, on any number of processes.
        """
        places = [sample.get('sample_idx') for sample in samples]
        if None in places:
            return None
        net = self.generator
        # The last number keeps it apart from the noise of the training.
        seeds = [(self.seed, place, 0, 1) for place in places]
        rows = [draw_noise(s, [1], net.noise_channels, 0) for s in seeds]
        return torch.cat([row[0][0] for row in rows])

    @torch.no_grad()
    def generate(
        self,
        number: int,
        labels: Tensor | None = None,
        *,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Make images, by default with noise of torch's random state.

        The networks are left in their mode; call ``eval()`` first, or each
        image depends on those beside it.

        Args:
            number (int): B.
            labels (Tensor | None): (B). Default: None, by chance.
            noise (Tensor | None): (B, Z). Default: None, by chance.

        Returns:
            Tensor: (B, 3, H, W), from -1 to 1.
        """
        check_positive(number=number)
        net = self.generator
        if labels is None and net.num_classes:
            labels = torch.randint(net.num_classes, (number,))
        if noise is None:
            noise = torch.randn(number, net.noise_channels)
        return self._generate(noise, labels)

    def _generate(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        # Drawn on a CPU, in float32; the network may be elsewhere, in float64.
        like = next(self.generator.parameters())
        if labels is not None:
            labels = labels.to(like.device)
        return self.generator(noise.to(like), labels)

    def _read(self, data: Any) -> tuple[Tensor, Tensor]:
        """Check a batch, and make it images and labels."""
        size = self.generator.img_size
        for image in data['inputs']:
            if tuple(image.shape) != (3, size, size):
                raise UserError(
                    f'the networks take images of 3 x {size} x {size} '
                    f'(img_size), the data set gives '
                    f'{" x ".join(map(str, image.shape))}; resize them there'
                )
        if len(data['inputs']) % self.discriminator_steps:
            raise UserError(
                f'a batch of {len(data["inputs"])} is not to be parted among '
                f'discriminator_steps={self.discriminator_steps}; set a '
                'multiple in train_dataloader.batch_size, and drop_last=True'
            )
        data = self.data_preprocessor(data, True)
        images, classes = data['inputs'], self.generator.num_classes
        labels = torch.zeros(len(images), dtype=torch.int64)
        if classes:
            labels = _labels(data['data_samples']).cpu()
            wrong = labels[(labels < 0) | (labels >= classes)]
            if len(wrong):
                raise UserError(
                    f'the data set has a label {wrong[0].item()}, but the '
                    f'networks num_classes={classes}'
                )
        like = next(self.discriminator.parameters())
        return images.to(like), labels.to(like.device)


def _labels(data_samples: Sequence[BaseDataElement]) -> Tensor:
    return torch.cat([sample.gt_label.flatten() for sample in data_samples])


def _update(optim_wrapper: Any, net: nn.Module, loss: Tensor) -> None:
    """Do what ``update_params`` does, with the gradients of all processes."""
    optim_wrapper.backward(optim_wrapper.scale_loss(loss))
    if optim_wrapper.should_update():
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        all_reduce_params(grads, op='mean')
        optim_wrapper.step()
        optim_wrapper.zero_grad()


def _widen(scores: Tensor) -> Tensor:
    """Leave half precision, for the mean."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Compute no gradients of parameters, for a while."""
    params = [p for p in module.parameters() if p.requires_grad]
    for param in params:
        param.requires_grad_(False)
    try:
        yield
    finally:
        for param in params:
            param.requires_grad_(True)
