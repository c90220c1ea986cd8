import json
import sys
from pathlib import Path

import pytest

import mmea.environment.report

HERE = Path(mmea.__file__).parent
ROOT = HERE.parent


def distribution(where, **texts):
    return type(
        'Distribution',
        (),
        dict(
            read_text=lambda self, name: texts.get(name.split('.')[0]),
            locate_file=lambda self, name: Path(where, name),
        ),
    )()


def link(folder, editable=True):
    return json.dumps(
        dict(url=Path(folder).as_uri(), dir_info=dict(editable=editable))
    )


EGG_INFO = distribution(ROOT)  # of a checkout in the working directory
SITE = '/somewhere/site-packages'


@pytest.mark.parametrize(
    ('found', 'how'),
    [
        ([], 'not by pip'),
        ([EGG_INFO], 'not by pip'),
        ([distribution(ROOT, INSTALLER='pip')], 'by pip'),
        ([distribution(SITE, INSTALLER='pip')], 'not by pip'),
        (
            [EGG_INFO, distribution(SITE, INSTALLER='pip',
                                    direct_url=link(ROOT))],
            'editable',
        ),
        (
            [distribution(SITE, INSTALLER='pip', direct_url=link('/other'))],
            'not by pip',
        ),
    ],
)  # fmt: skip
def test_how_it_is_installed(found, how, monkeypatch):
    # By name the package has the function of the module's name.
    module = sys.modules['mmea.environment.report']
    monkeypatch.setattr(module, 'distributions', lambda name: found)
    assert module._how_installed() == f'{how}, in {HERE}'
