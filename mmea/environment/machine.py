"""GPUs, cores, memory and folders."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

from mmea.files import cache_folder

__all__ = ['nvidia_driver', 'read_folders', 'read_machine', 'read_variables']

#: Variables that are shown if they are set, beside those of mmea itself.
VARIABLES = (
    'CUDA_VISIBLE_DEVICES',
    'LOCAL_RANK',
    'OMP_NUM_THREADS',
    'RANK',
    'TORCH_HOME',
    'XDG_CACHE_HOME',
)


def read_machine(torch: Any) -> dict[str, Any]:
    """Describe the machine.

    Args:
        torch (module | None): None, where it cannot be imported; then what
            only torch knows is left out.

    Returns:
        dict[str, Any]: system, cores and those usable, memory in GiB, driver;
        of torch threads, cuda, cudnn and gpus.
    """
    page = os.sysconf('SC_PAGE_SIZE')
    found: dict[str, Any] = dict(
        system=platform.platform(),
        cores=os.cpu_count(),
        cores_usable=len(os.sched_getaffinity(0)),
        memory_gib=_gib(page * os.sysconf('SC_PHYS_PAGES')),
        memory_free_gib=_gib(page * os.sysconf('SC_AVPHYS_PAGES')),
        nvidia_driver=nvidia_driver(),
    )
    if torch is None:
        return found
    cudnn = torch.backends.cudnn
    return dict(
        found,
        threads=torch.get_num_threads(),
        cuda=torch.version.cuda,
        cudnn=cudnn.version() if cudnn.is_available() else None,
        gpus=_gpus(torch),
    )


def nvidia_driver() -> str | None:
    """Read the version of the loaded driver; None without one."""
    try:
        return Path('/sys/module/nvidia/version').read_text('ascii').strip()
    except OSError:
        return None


def _gpus(torch: Any) -> list[str]:
    if not torch.cuda.is_available():
        return []
    found = []
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        found.append(
            f'{gpu.name}, {_gib(gpu.total_memory)} GiB, compute capability '
            f'{gpu.major}.{gpu.minor}'
        )
    return found


def read_folders(torch: Any) -> dict[str, str]:
    """Name the folders that mmea reads, see docs/environment_variables.md."""
    import mmea

    found = dict(
        configs=mmea.config('ea_fpn_ade20k.py').rpartition('/')[0],
        checked_data=str(cache_folder() / 'checked'),
        python=sys.prefix,
    )
    if torch is not None:
        found['weights'] = f'{torch.hub.get_dir()}/checkpoints'
    return found


def read_variables() -> dict[str, str]:
    """Tell which of the variables that mmea reads are set, and to what."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith('MMEA_') or name in VARIABLES
    }


def _gib(number: int) -> float:
    return round(number / 2**30, 1)
