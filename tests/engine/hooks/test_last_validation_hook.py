import pytest

from mmea.engine.hooks import LastValidationHook

from .test_first_validation_hook import train


@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_training_that_was_at_its_end(tmp_path, by_epoch):
    """It is validated, with its weights; one that goes on only as ever."""
    hook = LastValidationHook
    first = train(tmp_path, by_epoch, 2, hook())
    seen = train(tmp_path, by_epoch, 2, hook(), resume=True)
    assert [(kind, mode) for kind, mode, _ in seen] == [('predict', False)] * 2
    assert {weight for *_, weight in seen} == {first[-1][2]}
    seen = train(tmp_path, by_epoch, 3, hook(), resume=True)
    kinds = [kind for kind, *_ in seen]
    # An epoch is of two iterations.
    assert kinds == ['loss'] * (1 + by_epoch) + ['predict'] * 2
