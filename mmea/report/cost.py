"""What each part of a model costs."""

from mmengine.config import Config

from mmea.complexity import complexity

__all__ = ['cost_of_parts']


def cost_of_parts(cfg: Config) -> tuple[list[tuple[str, int, int]], str]:
    """Count parameters and multiply-accumulates of backbone, neck and heads.

    Args:
        cfg (Config): Of the training.

    Returns:
        tuple[list[tuple[str, int, int]], str]: Name, parameters (frozen ones
        too) and MACs of each part, and of all under 'all'; the image's size.

    Raises:
        UserError: As of :func:`mmea.complexity.complexity`.
    """
    found = complexity(cfg)
    rows = [
        (name, row['parameters'], row['macs'] or 0)
        for name, row in found['parts'].items()
    ]
    rest = [
        found[key] - sum(row[i] for row in rows)
        for i, key in ((1, 'parameters'), (2, 'macs'))
    ]
    if any(rest):
        rows.append(('the rest', *rest))
    rows.append(('all', found['parameters'], found['macs']))
    return rows, '{} x {}'.format(*found['size'])
