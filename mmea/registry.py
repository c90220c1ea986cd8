"""mmea's registries: children of mmengine's, with the scope ``mmea``.

A config writes ``type='mmea.EAHead'``; mmengine then imports this module and,
at the first look-up, the locations named here. An ImportError in this module
would turn into "not in the registry", so it imports mmengine's registries and
nothing heavier.
"""

from typing import NoReturn

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import (
    WEIGHT_INITIALIZERS as MMENGINE_WEIGHT_INITIALIZERS,
)
from mmengine.registry import Registry

from mmea.errors import EXTRAS

__all__ = [
    'DATASETS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'MODEL_WRAPPERS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'STRATEGIES',
    'TRANSFORMS',
    'WEIGHT_INITIALIZERS',
    'register_missing',
]


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(
        name, parent=parent, scope='mmea', locations=list(locations)
    )


#: Packages beside the rooms of all tasks, which register parts of any kind.
WINGS = ('mmea.caam', 'mmea.gan', 'mmea.point_clouds', 'mmea.stereo')

MODELS = _child('model', MMENGINE_MODELS, 'mmea.models', 'mmea.swap', *WINGS)
MODEL_WRAPPERS = _child('model_wrapper', MMENGINE_MODEL_WRAPPERS, *WINGS)
DATASETS = _child('dataset', MMENGINE_DATASETS, 'mmea.datasets', *WINGS)
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'mmea.datasets')
HOOKS = _child('hook', MMENGINE_HOOKS, 'mmea.engine.hooks', *WINGS)
METRICS = _child('metric', MMENGINE_METRICS, 'mmea.engine.metrics', *WINGS)
OPTIM_WRAPPERS = _child(
    'optim wrapper',
    MMENGINE_OPTIM_WRAPPERS,
    'mmea.engine.cpu_amp_optim_wrapper',
)
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor',
    MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    *WINGS,
)
STRATEGIES = _child(
    'strategy', MMENGINE_STRATEGIES, 'mmea.engine.fsdp_strategy'
)
WEIGHT_INITIALIZERS = _child(
    'weight initializer',
    MMENGINE_WEIGHT_INITIALIZERS,
    'mmea.engine.pretrained',
)


def register_missing(
    registry: Registry, names: list[str], package: str, error: ImportError
) -> list[type]:
    """Register stand-ins for parts whose package cannot be imported.

    A user without that package is fine until a config names the part; then
    the stand-in says what to install, where the registry would say that it
    has no such name.

    Args:
        registry (Registry): Where the parts would be.
        names (list[str]): Their names.
        package (str): Import name of the package that they need, a key of
            ``mmea.errors.EXTRAS``.
        error (ImportError): What importing them raised.

    Returns:
        list[type]: The stand-ins, whose constructors raise an ImportError.
    """

    def stand_in(name: str) -> type:

        def refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
            raise ImportError(
                f'mmea.{name} needs {package}, which cannot be imported '
                f'({error}). Install it with the extra '
                f'{EXTRAS[package]} of mmea; see docs/install.md'
            ) from error

        return type(name, (), {'__init__': refuse, '__module__': __name__})

    return [
        registry.register_module(name=name, module=stand_in(name))
        for name in names
    ]
