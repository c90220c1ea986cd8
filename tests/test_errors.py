import pytest
from torch._utils import ExceptionWrapper

from mmea.errors import UserError


def test_one_line_whatever_a_package_says():
    error = UserError('cannot build a.py: no key "type",\n  but got\nNone\n')
    assert str(error) == 'cannot build a.py: no key "type", but got None'
    assert str(UserError("no folder 'a  b'")) == "no folder 'a  b'"


def test_message_of_a_worker():
    try:
        raise UserError('cannot decode x.png')
    except UserError:
        wrapper = ExceptionWrapper(where='in DataLoader worker process 0')
    with pytest.raises(UserError) as info:
        wrapper.reraise()
    assert str(info.value) == 'cannot decode x.png'
