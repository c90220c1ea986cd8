"""What holds for the whole package: floors, imports, configs, packaging."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmea
from mmea import layers
from mmea.errors import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'mmea'
CONFIGS = ROOT / 'configs'
OPENMMLAB = ('mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain')
HEAVY = ('torch', 'torchvision', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain')

# Low to high. What is not named here (cli, compare, train, test) stands on
# top: it may import all, and nothing below imports it.
FLOORS = {
    'errors': 0,
    'files': 0,
    'mmcv_ops': 0,
    '__init__': 0,
    'profiling': 0,
    'registry': 0,
    'safe_loading': 0,
    'ops': 1,
    'demo': 1,
    'layers': 2,
    'convert': 3,
    'maps': 3,
    'scale': 3,
    'models': 4,
    'caam': 5,
    'point_clouds': 5,
    'gan': 5,
    'swap': 5,
    'engine': 6,
    'datasets': 6,
    'stereo': 6,
}
TOP = 7


def imported_one_by_one(*modules):
    """Top-level packages that a new Python holds after each of these."""
    code = 'import sys\n' + '\n'.join(
        f"import {name}; print(*{{n.split('.')[0] for n in sys.modules}})"
        for name in modules
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


def modules():
    """All modules of the package, without the configs linked into it."""
    return sorted(p for p in PACKAGE.rglob('*.py') if '.mim' not in p.parts)


def imports(path):
    """Yield the absolute dotted names that a file imports, at any depth."""
    parts = ('mmea', *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                up = parts[: len(parts) - node.level + 1]
                base = '.'.join((*up, base) if base else up)
            if base == 'mmea':  # from mmea import layers
                for alias in node.names:
                    yield f'mmea.{alias.name}'
            else:
                yield base


def floor(name):
    """Floor of 'mmea.layers.x'; below all for what is not in the house."""
    package, _, rest = name.partition('.')
    if package != 'mmea' or not rest or rest in mmea.__all__:
        return -1
    if rest.endswith('.__main__'):  # a door to the command line
        return TOP
    return FLOORS.get(rest.split('.')[0], TOP)


def test_light_import():
    package, command, registry = imported_one_by_one(
        'mmea', 'mmea.cli.train', 'mmea.registry'
    )
    for light in (package, command):
        assert not light & {'numpy', *HEAVY, *OPENMMLAB}
    assert not registry & set(HEAVY)
    # The layers import the ops.
    (layers,) = imported_one_by_one('mmea.layers')
    assert not layers & {'torchvision', *OPENMMLAB}
    assert 'torch' in layers  # or imports would go unseen


@pytest.mark.parametrize(
    'path', modules(), ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_imports_go_downwards(path):
    here = path.relative_to(ROOT).with_suffix('').as_posix()
    own = floor(here.replace('/', '.'))
    higher = {n for n in imports(path) if floor(n) > own}
    assert not higher, f'a lower floor imports a higher one: {sorted(higher)}'


@pytest.mark.parametrize(
    'path',
    [
        p
        for part in ('ops', 'layers', 'maps', 'scale')
        for p in (PACKAGE / part).rglob('*.py')
    ],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_ops_layers_and_maps_need_torch_only(path):
    allowed = {'torch', 'mmea', *sys.stdlib_module_names}
    if path.parent.name == 'external_attention_kernels':
        allowed.add('triton')  # which comes with torch, where it has GPUs
    assert {n.split('.')[0] for n in imports(path)} <= allowed


def test_floor_checks_can_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], 'PACKAGE', tmp_path)
    (tmp_path / 'layers').mkdir()
    path = tmp_path / 'layers' / 'x.py'
    path.write_text(
        'from mmea import train\n'
        'from .. import swap\n'
        'from ..models.heads import A\n'
        'def f():\n    import mmea.engine.hooks\n'
        'from . import base\n'
        'from ..ops import norm\n'
    )
    found = [n for n in imports(path) if floor(n) > FLOORS['layers']]
    assert found == [
        'mmea.train',
        'mmea.swap',
        'mmea.models.heads',
        'mmea.engine.hooks',
    ]


def test_every_folder_is_a_package():
    """Without __init__.py a folder is left out of the wheel."""
    folders = {p.parent for p in modules()}
    assert not [f for f in folders if not (f / '__init__.py').exists()]


def test_public_names():
    tree = ast.parse((PACKAGE / '__init__.py').read_text(encoding='utf-8'))
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == '__all__'
    ]
    assert [ast.literal_eval(v) for v in values] == [mmea.__all__]
    assert mmea.__all__ == [
        '__version__',
        'attention_maps',
        'config',
        'get_config',
        'list_attentions',
        'list_configs',
        'load',
        'swap_attention',
    ]
    assert all(hasattr(mmea, name) for name in mmea.__all__)
    assert mmea.config is mmea.get_config  # as in configs of users
    with pytest.raises(AttributeError, match="no attribute 'swop'"):
        mmea.swop  # noqa: B018
    assert re.fullmatch(r'\d+\.\d+\.\d+\w*', mmea.__version__)


def test_attention_layers_at_the_top():
    found = mmea.list_attentions()
    assert found['ExternalAttention2d'].startswith('External attention: ')
    others = {'AttentionBlock2d', 'switch_to_deploy'}
    assert set(found) == {*layers.__all__} - others
    assert set(found) < set(dir(mmea))
    for name, line in found.items():
        assert getattr(mmea, name) is getattr(layers, name)
        assert line.endswith('.')


class TestConfig:
    def test_every_file_is_found(self):
        files = [p.relative_to(CONFIGS) for p in CONFIGS.rglob('*.py')]
        assert files
        for file in files:
            found = Path(mmea.config(file.as_posix()))
            assert found.is_absolute()
            assert found.samefile(CONFIGS / file)

    def test_named_ones_exist(self):
        assert 'ea_fpn_ade20k.py' in mmea.list_configs()
        assert 'ea_fpn_cityscapes.py' in mmea.list_configs()
        assert not [n for n in mmea.list_configs() if '_base_' in n]

    def test_suffix_may_be_left_out(self):
        assert mmea.config('ea_fpn_ade20k') == mmea.config('ea_fpn_ade20k.py')

    def test_unknown_name(self):
        with pytest.raises(ValueError) as error:
            mmea.config('ea_fpn_ade20')
        assert "'ea_fpn_ade20'" in str(error.value)
        assert "'ea_fpn_ade20k.py'" in str(error.value)
        assert 'mmea.list_configs()' in str(error.value)

    def test_folder_left_out(self):
        name = next(n for n in mmea.list_configs() if '/' in n)
        with pytest.raises(ValueError, match=re.escape(repr(name))):
            mmea.config(name.rsplit('/', 1)[1])

    def test_nothing_outside(self):
        with pytest.raises(ValueError, match='no config'):
            mmea.config('../mmea/__init__.py')

    def test_link_is_relative(self):
        link = PACKAGE / '.mim' / 'configs'
        if not link.is_symlink():
            pytest.skip('not a checkout with links')
        assert link.readlink() == Path('../../configs')

    def test_without_links(self, tmp_path, monkeypatch):
        (tmp_path / 'mmea' / '.mim').mkdir(parents=True)
        (tmp_path / 'mmea' / '.mim' / 'configs').write_text('../../configs')
        (tmp_path / 'configs').mkdir()
        (tmp_path / 'configs' / 'a.py').touch()
        init = tmp_path / 'mmea' / '__init__.py'
        monkeypatch.setattr(mmea, '__file__', str(init))
        assert mmea.config('a') == str(tmp_path / 'configs' / 'a.py')

    def test_no_dead_host_and_no_foreign_base(self):
        bad = re.compile(
            r'open-?mmlab://|download\.openmmlab\.com|torchvision://'
            r'|mm(seg|det|pretrain)::'
        )
        texts = {
            path.relative_to(CONFIGS).as_posix(): path.read_text('utf-8')
            for path in CONFIGS.rglob('*')
            if path.is_file() and '__pycache__' not in path.parts
        }
        assert len(texts) > 100
        assert not {n: found for n in texts if (found := bad.search(texts[n]))}


@pytest.fixture(scope='module')
def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg', encoding='utf-8')
    return parser


def test_no_openmmlab_package_is_required(setup_cfg):
    required = setup_cfg['options']['install_requires'].split()
    names = [re.split('[<>=~!]', r)[0] for r in required]
    assert names == ['torch', 'numpy']


def test_segmentation_extra_needs_no_compiled_ops(setup_cfg):
    assert 'mmdet' not in setup_cfg['options.extras_require']['onedl']


def test_extras_fit_together(setup_cfg):
    """One pin for each package, and every extra that an error names."""
    extras = setup_cfg['options.extras_require']
    for stack, number in [
        (('onedl', 'onedl-det', 'cls'), 5),
        (('openmmlab', 'openmmlab-lite'), 5),
    ]:
        lines = [line for extra in stack for line in extras[extra].split()]
        pins = {tuple(line.split('==')) for line in lines if '==' in line}
        assert len({name for name, _ in pins}) == len(pins) == number
        # Their ops take the place of compiled ones.
        assert lines.count('torchvision') == len(stack)
    named = {
        name for text in EXTRAS.values() for name in text.split('"')[1::2]
    }
    assert named <= set(extras)


def test_registries():
    import mmengine.registry

    import mmea.registry

    names = [n for n in mmea.registry.__all__ if n.isupper()]
    assert {'MODELS', 'DATASETS', 'TRANSFORMS', 'HOOKS'} <= set(names)
    for name in names:
        child = getattr(mmea.registry, name)
        assert child.scope == 'mmea'
        assert child.parent is getattr(mmengine.registry, name)
