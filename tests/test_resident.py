"Data that are kept on a card: batches are the same to the bit, and nothing waits; what does not fit is sent."

import warnings
from types import SimpleNamespace
import pytest, torch
from torch.utils.data import TensorDataset
from nas_suite.tasks.classification import classification
from nas_suite.training import Stream, sent
from nas_suite.training.resident import Held, Resident, coded, cutter, is_coded, size_of


def photos(n=40, channels=3, size=6, dtype=torch.float32):
    x = torch.randint(0, 256, (n, channels, size, size), generator=torch.Generator().manual_seed(0))
    return (x.to(dtype) / 255 - 0.47) / 0.25


@pytest.mark.parametrize(
    't',
    [
        photos(),
        photos(dtype=torch.float64),
        photos().to(memory_format=torch.channels_last),
        photos(channels=1)[:, :, 0],
        photos().round(),
        torch.zeros(5, 2, 3, 3, 3),
    ],
    ids=['photos', 'double', 'channels last', 'sequences', 'two values', 'volumes'],
)
def test_bytes_and_a_table_are_the_floats(t):
    assert is_coded(t)
    codes, table = coded(t)
    assert codes.dtype is torch.uint8 and codes.shape == t.shape and table.shape == (t.shape[1], 256)
    held, some = Held(t, 'cpu'), torch.tensor([3, 0, 3, len(t) - 1])
    assert torch.equal(held[some], t[some]) and held[some].dtype is t.dtype
    labels = torch.arange(len(t))
    assert all(map(torch.equal, Resident(TensorDataset(t, labels), 'cpu')([2, 4]), (t[[2, 4]], labels[[2, 4]])))
    assert size_of(TensorDataset(t, labels)) == t.numel() + labels.nbytes


def spoiled(value):
    t = photos(300)
    t[299, 1, 0, 0] = value  # behind what is looked at first
    return t


@pytest.mark.parametrize(
    't',
    [torch.randn(40, 3, 8, 8), torch.arange(9), torch.rand(9, 3), spoiled(torch.nan), photos(300) + torch.cat([torch.zeros(280, 1, 1, 1), torch.rand(20, 1, 1, 1)])],
    ids=['floats', 'labels', 'rows', 'NaN', 'others later'],
)
def test_what_is_no_bytes_is_kept_as_it_is(t):
    some = torch.tensor([4, 1])
    assert coded(t) is None and torch.equal(Held(t, 'cpu')[some], t[some])


def test_batches_of_kept_data_are_those_of_the_host(monkeypatch):
    "The processor stands for a card."
    from nas_suite.training import data as module

    task = classification('digits')
    plain = Stream(task.train, 16, seed=3, augment=task.augment)
    monkeypatch.setattr(module, 'cutter', lambda dataset, device: Resident(dataset, device))
    kept = Stream(task.train, 16, seed=3, augment=task.augment)
    for _ in range(plain.per_epoch + 1):
        for ours, theirs in zip(next(kept), next(plain)):
            assert torch.equal(ours, theirs) and ours.stride() == theirs.stride()


def test_what_does_not_fit_is_not_kept_and_both_are_remembered(monkeypatch):
    asked, made = [], []
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: asked.append(device) or (4 * 40 * 3 * 36 + 4 * 320, 0))
    monkeypatch.setattr(resident_module(), 'Resident', lambda dataset, device: made.append(dataset) or 'kept')
    fits = TensorDataset(photos(), torch.arange(40))
    large = TensorDataset(torch.randn(40, 3, 6, 6), torch.arange(40))
    for _ in range(2):
        assert cutter(fits, 'cuda') == 'kept' and torch.equal(cutter(large, 'cuda')([1])[1], torch.tensor([1]))
    assert made == [fits] and len(asked) == 2


def resident_module():
    import nas_suite.training.resident as module

    return module


def test_only_a_card_is_sent_to_without_waiting(monkeypatch):
    t = torch.ones(2)
    assert sent(t, 'cpu') is t and sent(t, 'meta').is_meta
    asked = SimpleNamespace(
        device=torch.device('cpu'), pin_memory=lambda: SimpleNamespace(to=lambda device, non_blocking: (device, non_blocking))
    )
    assert sent(asked, 'cuda') == (torch.device('cuda'), True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no card here')
def test_batches_on_a_card_are_those_of_the_host_and_nothing_waits():
    task = classification('digits', shift=1)
    here, there = (Stream(task.train, 16, seed=3, augment=task.augment, device=device) for device in ('cpu', 'cuda'))
    next(there), there.seek(0)  # the first brings the data
    with warnings.catch_warnings(record=True) as counted:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            found = [next(there) for _ in range(4)]
        finally:
            torch.cuda.set_sync_debug_mode('default')
    assert not [w for w in counted if 'synchronizing CUDA operation' in str(w.message)]
    assert all(torch.equal(a.cpu(), b) for batch in found for a, b in zip(batch, next(here)))
