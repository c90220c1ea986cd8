"""Copies of label images whose ids count from 0."""

from collections.abc import Iterable
from functools import partial

from mmea.engine.data_checks.files import shorten
from mmea.errors import UserError

from .labels import count_ids, write_labels
from .layout import OWN_LABELS, Layout
from .project import Project

__all__ = ['IGNORED', 'is_binary', 'plan_copies', 'relabelled']

IGNORED = 255


def plan_copies(
    layout: Layout, force: bool, project: Project
) -> dict[int, int]:
    """Plan copies of all label images, with ids from 0.

    Args:
        layout (Layout): Of the label images.
        force (bool): Whether copies that are there may be replaced.
        project (Project): Is given the copies, and a warning that tells them.

    Returns:
        dict[int, int]: The new id of each id; others become 255.

    Raises:
        UserError: Copies are there, or masks are broken, or hold no ids or
            too many.
    """
    folder = layout.root / OWN_LABELS
    if folder.exists() and not force:
        raise UserError(
            f'{folder} is there already; --force writes into it all the same'
        )
    labels = {
        f'{part.labels}/{name}.png': layout.label(part, name)
        for part in layout.parts.values()
        for name in part.names
    }
    ids, broken = count_ids(list(labels.values()))
    found = [*ids] if is_binary(ids) else [i for i in ids if i != IGNORED]
    if broken or not 0 < len(found) < IGNORED:
        raise UserError(
            f'--write-labels needs 1 to 254 ids, and masks that can be '
            f'decoded; {layout.root} has {len(found)} ids and {len(broken)} '
            f'broken masks {shorten(broken)}'
        )
    project.copies = partial(write_labels, labels, folder, found)
    new_ids = {old: new for new, old in enumerate(found)}
    project.warnings.append(
        f'{len(labels)} copies of masks are in {folder}, with the ids '
        f'{", ".join(f"{new} for {old}" for old, new in new_ids.items())}'
    )
    return new_ids


def relabelled(layout: Layout) -> Layout:
    """Take the copies in place of the label images."""
    return layout._replace(
        seg_map_suffix='.png',
        parts={
            split: part._replace(labels=f'{OWN_LABELS}/{part.labels}')
            for split, part in layout.parts.items()
        },
    )


def is_binary(ids: Iterable[int]) -> bool:
    """Say whether ids are those of a picture of black and white."""
    return {*ids} in ({0, IGNORED}, {IGNORED})
