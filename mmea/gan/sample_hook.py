from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmea.errors import UserError
from mmea.files import whole
from mmea.layers._checks import check_int, check_positive
from mmea.registry import HOOKS

from .samples import draw_rows, sample_rows, walk_rows

__all__ = ['GANSampleHook']


@HOOKS.register_module()
class GANSampleHook(Hook):
    """Draw what a GAN makes, again and again from the same noise.

    Before the training, every ``interval`` iterations and after the last,
    ``samples/iter_N.png`` and ``samples/iter_N_walk.png`` are written to the
    work dir: a row of images for each class, a column for each noise; and the
    way between the first two noises, along the sphere. They show the average
    of the weights where an ``EMAHook`` keeps one. The training's random
    numbers are left alone. A validation whose classes are numbered otherwise
    than the training's is refused before anything is trained.

    Args:
        interval (int): Iterations between two. Default: 1000.
        num_images (int): Of each class. Default: 10.
        num_steps (int): Of the walk, with both ends; 0 draws none. Default:
            10.
        num_classes (int): Rows, at most: the first classes. Default: 10.
        seed (int): Of the noise. Default: 0.

    Raises:
        ValueError: A number is out of its range.
        UserError: Training and validation differ in the names of a class.
    """

    priority = 'LOWEST'  # after the average of the weights

    def __init__(
        self,
        interval: int = 1000,
        num_images: int = 10,
        num_steps: int = 10,
        num_classes: int = 10,
        seed: int = 0,
    ) -> None:
        check_positive(
            interval=interval, num_images=num_images, num_classes=num_classes
        )
        check_int(0, seed=seed, num_steps=num_steps)
        if num_steps == 1:
            raise ValueError('num_steps must be 0, or 2 and more, got 1')
        self.interval = interval
        self.num_images = num_images
        self.num_steps = num_steps
        self.num_classes = num_classes
        self.seed = seed

    def before_train(self, runner: Runner) -> None:
        if runner.val_loop is None:
            return
        names, others = (
            getattr(loader.dataset, 'metainfo', {}).get('classes', ())
            for loader in (runner.train_dataloader, runner.val_dataloader)
        )
        for i, (name, other) in enumerate(zip(names, others)):
            if name != other:
                raise UserError(
                    f'class {i} is {name!r} in train_dataloader.dataset and '
                    f'{other!r} in val_dataloader.dataset; give both the same '
                    'folders of classes, or the same names by classes=[...]'
                )

    # Not before_train: by then all that is told of the run has been.
    def before_train_epoch(self, runner: Runner) -> None:
        if runner.iter == 0:
            self.draw(runner, 0)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        if self.every_n_train_iters(runner, self.interval):
            self.draw(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        if runner.iter % self.interval:
            self.draw(runner, runner.iter)

    @master_only
    def draw(self, runner: Runner, iteration: int) -> None:
        """Write the pictures of an iteration."""
        model: Any = runner.model
        if is_model_wrapper(model):
            model = model.module
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                model = hook.ema_model.module
        names = runner.train_dataloader.dataset.metainfo.get('classes', ())
        total = model.generator.num_classes
        labels = list(range(min(total, self.num_classes))) or [0]
        # A data set may have fewer classes than the networks, or no names.
        if not total:  # all classes are one to it
            names = ()
        names = [str(names[i]) if i < len(names) else '' for i in labels]
        pictures = {'': sample_rows(model, labels, self.num_images, self.seed)}
        if self.num_steps:
            pictures['_walk'] = walk_rows(
                model, labels, self.num_steps, self.seed
            )
        for ending, rows in pictures.items():
            path = Path(
                runner.work_dir, f'samples/iter_{iteration}{ending}.png'
            )
            with whole(path) as part:
                draw_rows(rows, names).savefig(part, dpi=120)
        runner.logger.info(f'Samples: {path.with_stem(f"iter_{iteration}")}')
