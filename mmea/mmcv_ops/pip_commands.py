"""What to give to pip, where mmcv's ops are missing; light, no torch."""

__all__ = ['compile_command', 'pair']


def pair(torch: str) -> str:
    """Name a torch and the torchvision that fits it.

    Args:
        torch (str): A release, such as '2.12.1' or '2.12.1+cpu'.

    Returns:
        str: 'torch==2.12.1 torchvision==0.27.1'.
    """
    release = torch.partition('+')[0]
    major, minor, patch = release.split('.')[:3]
    # True of every release from torch 2.0 and torchvision 0.15 on.
    fitting = f'==0.{int(minor) + 15}.{patch}' if major == '2' else ''
    return f'torch=={release} torchvision{fitting}'


def compile_command(package: str, version: str) -> str:
    """Tell how to compile the ops of a distribution of mmcv."""
    return (
        'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir '
        f'--no-deps --force-reinstall --no-binary {package} '
        f'{package}=={version}'
    )
