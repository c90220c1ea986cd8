from collections.abc import Iterator, Mapping

from mmengine.logging import print_log
from mmengine.model import update_init_info
from torch import Tensor, nn

from mmea.convert import BACKBONES, convert, fit, unwrap
from mmea.convert.rename import group
from mmea.engine.checkpoint import load_checkpoint
from mmea.errors import UserError
from mmea.registry import WEIGHT_INITIALIZERS

__all__ = ['Pretrained']


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Start a backbone from a published file, whatever its names are.

    ``init_cfg=dict(type='mmea.Pretrained', checkpoint=FILE_OR_URL)`` takes
    files of torchvision and timm (ResNet, MobileNetV2) as they are published,
    and files under the model's own names. Nothing in a file is executed. The
    log says what was left out of the file, its classifier above all, and what
    the file did not have, such as an attention that was added.

    Args:
        checkpoint (str): Path or http(s) address; ``.safetensors`` too, if
            that package is installed.
        source (str | None): What the file is, one of
            :data:`mmea.convert.SOURCES`. Default: None, what fits best of
            torchvision's, timm's and the model's own names.

    Raises:
        UserError: No such file, no network, or weights of another
            architecture.
    """

    def __init__(self, checkpoint: str, source: str | None = None) -> None:
        if not isinstance(checkpoint, str):
            raise UserError(
                'checkpoint of mmea.Pretrained must be a path or an address, '
                f'got {checkpoint!r}'
            )
        self.checkpoint, self.source = checkpoint, source

    def __call__(self, module: nn.Module) -> None:
        state = load_checkpoint(self.checkpoint, 'cpu')
        try:
            fitted = fit(self._candidates(state), module.state_dict())
        except ValueError as error:
            raise UserError(
                f'the weights {self.checkpoint} are of another architecture '
                f'than {type(module).__name__}: {error}'
            ) from error
        broken = [k for k, v in fitted.state.items() if v.isnan().any()]
        if broken:
            raise UserError(
                f'the weights {self.checkpoint} hold NaN (in {group(broken)})'
                ': take another file'
            )
        module.load_state_dict(fitted.state, strict=False)
        text = f'{self.checkpoint}: {len(fitted.state)} entries loaded'
        if fitted.source:
            text += f', names of {fitted.source} converted'
        if fitted.left:
            text += f'; left out: {group(fitted.left)}'
        if fitted.missing:
            text += f'; not in the file: {group(fitted.missing)}'
        print_log(text, 'current')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, f'loaded from {self.checkpoint}')
        _keep(module, set(fitted.missing))

    def _candidates(
        self, state: Mapping
    ) -> Iterator[tuple[str | None, dict[str, Tensor]]]:
        if self.source is not None:
            yield self.source, convert(state, self.source)
            return
        yield None, unwrap(state)
        for source in BACKBONES:
            try:
                yield source, convert(state, source)
            except ValueError:  # it is not of this source
                continue


def _keep(module: nn.Module, missing: set[str]) -> None:
    """Have the stack initialise nothing again of what was loaded.

    For ``type='Pretrained'`` alone mmengine initialises the children before
    the module, and mmpretrain's backbones set no norm to zero afterwards.
    """
    module.init_cfg = dict(type='Pretrained')  # type: ignore[assignment]
    for name, child in module.named_modules():
        prefix = f'{name}.' if name else ''
        own = child.state_dict()
        if name and own and not any(prefix + key in missing for key in own):
            child.is_init = True
