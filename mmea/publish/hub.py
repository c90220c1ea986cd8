"""Upload of a published folder to the Hugging Face Hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from mmea.errors import UserError, in_one_line

__all__ = ['Hub']


class Hub:
    """A repository on the Hugging Face Hub, as whoever is logged in there.

    Args:
        repo (str): ``USER/REPO``.

    Raises:
        UserError: No such form, or the package huggingface_hub is missing.
    """

    def __init__(self, repo: str) -> None:
        if not re.fullmatch(r'[\w.-]+/[\w.-]+', repo):
            raise UserError(f'--upload takes USER/REPO, got {repo!r}')
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise UserError(
                '--upload needs the package huggingface_hub: pip install '
                'huggingface_hub'
            ) from error
        self.repo = repo
        self._api = HfApi()

    def upload(self, files: Sequence[Path], name: str) -> None:
        """Make the repository, if there is none, and upload files.

        Args:
            files (Sequence[Path]): All in one folder.
            name (str): Of the model; weights of the repository that have it
                and were published before are removed.

        Raises:
            UserError: Not logged in, no network, or refused.
        """
        with in_one_line(f'cannot upload to {self.repo}'):
            self._api.create_repo(self.repo, exist_ok=True)
            self._api.upload_folder(
                repo_id=self.repo,
                folder_path=str(files[0].parent),
                allow_patterns=[file.name for file in files],
                delete_patterns=[f'{name}-*.pth', f'{name}-*.safetensors'],
            )
