import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def scope(request):
    """That of the module's configs, where it names one."""
    name = getattr(request.module, 'SCOPE', None)
    with DefaultScope.overwrite_default_scope(name):
        yield
