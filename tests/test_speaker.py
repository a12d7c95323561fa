"Speaker verification: recordings, features, loss, metrics by hand, trials, data on disk, and the whole way from data to a decision."

import contextlib, io, math, types, warnings, numpy as np, pytest, soundfile, torch
from pathlib import Path
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional as F
from data_recipes import speaker_folders, synthetic_voices, voxceleb
from nas_suite import search
from nas_suite.choices import count, restrict
from nas_suite.cli import main
from nas_suite.costs import macs
from nas_suite.spaces.tdnn import efficient_tdnn, fine
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.supernet import Supernet, five_stages
from nas_suite.training import Loop
from nas_suite.tasks.speaker import (
    Disturb,
    LogMel,
    Recordings,
    as_norm,
    embed_files,
    embeddings,
    equal_error_rate,
    error_curve,
    interval,
    margin_loss,
    min_dcf,
    published_front,
    UnusualRecording,
    read_part,
    read_wave,
    speaker,
)
from spaces import off

voices = synthetic_voices.load(voices=12, utterances=4)


def tiny_space(**more):
    return efficient_tdnn(
        **(
            dict(
                features=24,
                embedding=16,
                widths=(8, 16),
                last=(16, 24),
                kernels=(1, 3),
                depths=(1, 2),
                scale=4,
                attention=8,
                frames=51,
            )
            | more
        )
    )


def tiny_task(**more):
    return speaker(voices, **(dict(bands=24, seconds=0.5, embedding=16) | more))


def test_stages_are_the_published_ones():
    space = efficient_tdnn(**fine)
    assert [count(restrict(space, s.to)) for s in five_stages(space)] == [
        1,
        243,
        351,
        (9**3 + 9**4 + 9**5) * 3,
        4_066_875,
    ]
    assert [s.name for s in five_stages(space)] == ['largest', 'kernel', 'depth', 'width 1', 'width 2']


def test_equal_error_rate_by_hand():
    assert equal_error_rate([3, 2, 1, 0], [1, 1, 0, 0])[0] == 0 and equal_error_rate([0, 1, 2, 3], [1, 1, 0, 0])[0] == 1
    assert math.isclose(equal_error_rate([4, 3, 2, 1], [1, 0, 1, 0])[0], 0.5)
    # misses 1, 2/3, 1/3, 1/3, 0, false alarms 0, 0, 0, 1/2, 1/2: they cross between the third and the fourth point
    assert math.isclose(equal_error_rate([5, 4, 3, 2, 1], [1, 1, 0, 1, 0])[0], 1 / 3, abs_tol=1e-9)


def test_ties_pass_together():
    at, miss, alarm = error_curve([1, 1, 1, 0], [1, 0, 1, 0])
    assert at.tolist() == [math.inf, 1, 0] and miss.tolist() == [1, 0, 0] and alarm.tolist() == [0, 0.5, 1]
    for order in ([1, 0], [0, 1]):
        assert equal_error_rate([0.3, 0.3], order)[0] == 0.5  # whichever comes first


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40).filter(
        lambda t: len({b for _, b in t}) == 2
    ),
    st.floats(0.01, 0.5),
)
def test_metrics_against_every_threshold(trials, p):
    s, y = torch.tensor([float(a) for a, _ in trials]), torch.tensor([b for _, b in trials])
    points = [
        ((s[y] < t).double().mean().item(), (s[~y] >= t).double().mean().item())
        for t in [*sorted({float(v) for v in s}), math.inf]
    ]
    assert math.isclose(
        min_dcf(s, y, p, 2.0, 1.0), min(2 * m * p + a * (1 - p) for m, a in points) / min(2 * p, 1 - p), abs_tol=1e-9
    )
    eer = equal_error_rate(s, y)[0]
    assert min(max(m, a) for m, a in points) + 1e-9 >= eer >= max(min(m, a) for m, a in points) - 1e-9
    assert math.isclose(eer, equal_error_rate(3 * s + 1, y)[0], abs_tol=1e-9)  # scores are compared, no more


def test_weights_are_repetitions():
    s, y, w = torch.tensor([0.9, 0.6, 0.5, 0.4, 0.2]), torch.tensor([1, 0, 1, 1, 0]), torch.tensor([2, 1, 3, 1, 2])
    assert math.isclose(
        equal_error_rate(s, y, w)[0], equal_error_rate(s.repeat_interleave(w), y.repeat_interleave(w))[0]
    )


@pytest.mark.parametrize(
    'scores, same, message',
    [([1.0, 2.0], [1, 1], 'only one kind'), ([1.0], [1, 0], '1 scores of 2'), ([math.nan, 1.0], [1, 0], 'NaN')],
)
def test_bad_scores(scores, same, message):
    with pytest.raises(ValueError, match=message):
        equal_error_rate(scores, same)


def test_interval_is_over_speakers():
    g = torch.Generator().manual_seed(0)
    names = [f's{i}' for i in range(8)]
    e = {n: torch.randn(4, generator=g) for n in names}
    pairs = [(a, b) for a in names for b in names for _ in range(5)]
    same = torch.tensor([a == b for a, b in pairs])
    scores = torch.tensor(
        [
            float(
                F.cosine_similarity(
                    e[a] + 1.2 * torch.randn(4, generator=g), e[b] + 1.2 * torch.randn(4, generator=g), 0
                )
            )
            for a, b in pairs
        ]
    )
    eer = equal_error_rate(scores, same)[0]
    low, high = interval(scores, same, pairs)
    assert low < eer < high and (low, high) == interval(scores, same, pairs)
    again = interval(
        scores.repeat(4), same.repeat(4), pairs * 4
    )  # more trials of the same speakers make nothing more certain
    assert abs((again[1] - again[0]) - (high - low)) < 1e-6


@pytest.mark.parametrize('pairs', [[('a', 'a'), ('a', 'b')], [('a', 'a'), ('b', 'b'), ('a', 'b')]])
def test_where_all_draws_agree_there_is_no_interval(pairs):
    from nas_suite.tasks.speaker.use import of_speakers

    same = torch.tensor([a == b for a, b in pairs])
    for scores in (same.double(), torch.linspace(0, 1, len(pairs)), torch.ones(len(pairs))):
        assert interval(scores, same, pairs) is None
    judged = dict(eer=0.0, eer_interval=None, min_dcf=0.0, min_dcf_interval=[0.0, 0.0])
    task = dict(p_target=0.01, c_miss=1.0, c_fa=1.0, seconds=2.0)
    said = of_speakers(dict(config=dict(task=task), result=dict(metrics=dict(retrained=judged))))
    assert all('(no interval' in said[name] and ' to ' not in said[name] for name in ('EER', 'minDCF'))


def test_as_norm_by_hand():
    a, b, c = (
        torch.tensor([[1.0, 0.0]]),
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]),
    )
    # a is nearest to 1 and 0: mean .5, deviation .5; b to 1 and 0 too; the score is 0
    assert torch.allclose(as_norm(torch.tensor([0.0]), a, b, c, 2), torch.tensor([-1.0], dtype=torch.float64))
    with pytest.raises(ValueError, match='cohort'):
        as_norm(torch.tensor([0.0]), a, b, c[:1])


def test_margin():
    cos, y = torch.linspace(-1, 1, 21)[:, None].repeat(1, 2), torch.zeros(21, dtype=torch.long)
    assert torch.allclose(margin_loss(10 * cos, y, 0.0, 10.0), F.cross_entropy(10 * cos, y))
    assert (
        margin_loss(10 * cos, y, 0.3, 10.0) > margin_loss(10 * cos, y, 0.1, 10.0) > margin_loss(10 * cos, y, 0.0, 10.0)
    )
    z = (10 * cos).requires_grad_()
    margin_loss(z, y, 0.2, 10.0).backward()
    assert z.grad.isfinite().all()


def test_margin_grows():
    task, y = tiny_task(), torch.tensor([0])
    logits = 30 * torch.tensor([[0.5] + [0.2] * (task.classes - 1)])
    losses = []
    for p in (0.0, 0.1, 0.3, 1.0):
        losses.append(float(task.loss_at(p)(logits, y)))
    assert losses[0] < losses[1] < losses[2] == losses[3] and math.isclose(
        losses[0], float(F.cross_entropy(logits, y)), rel_tol=1e-5
    )


def test_features_do_not_depend_on_gain_or_batch():
    x = torch.stack([voices['waves'][f][:12000] for f, _ in voices['train'][:3]])
    front = LogMel()
    y = front(x)
    assert y.shape == (3, 80, front.frames(12000)) and torch.allclose(y[1:2], front(x[1:2]), atol=1e-4)
    p = published_front()(x)
    assert torch.allclose(p.mean(2), torch.zeros(3, 80), atol=1e-4) and torch.allclose(
        p.std(2, correction=0), torch.ones(3, 80), atol=1e-2
    )
    loud = (published_front()(x) - published_front()(x / 4)).abs().mean()
    assert (
        loud < 0.02 < (LogMel(variance=True)(x * 0.01) - LogMel(variance=True)(x)).abs().mean()
    )  # at +-1 the floor of the logarithm shows


def test_features_of_a_tone():
    t = torch.arange(16000) / 16000
    front = LogMel()
    raw = front.mel(torch.sin(2 * math.pi * 1000 * t)[None])[0].mean(1)
    low, high = 2595 * math.log10(1 + 20 / 700), 2595 * math.log10(1 + 7600 / 700)
    at = (2595 * math.log10(1 + 1000 / 700) - low) / (high - low) * 81 - 1
    assert abs(int(raw.argmax()) - at) <= 1


def write(path, wave, rate=16000, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **more)
    return path


@pytest.mark.parametrize('suffix', ['wav', 'flac', 'ogg'])
def test_formats_rates_channels(tmp_path, suffix):
    w = voices['waves']['voice000/00'].numpy()[:16000]
    a, note = read_wave(write(tmp_path / f'a.{suffix}', w))
    assert len(a) == 16000 and note == '' and (a - torch.from_numpy(w)).abs().max() < (0.2 if suffix == 'ogg' else 1e-3)
    b, note = read_wave(write(tmp_path / f'b.{suffix}', np.stack([w, w], 1)))
    assert '2 channels' in note and (b - a).abs().max() < 0.2
    c, note = read_wave(write(tmp_path / f'c.{suffix}', w[:16000:2], 8000))
    assert '8000 Hz' in note and abs(len(c) - 16000) < 10


def test_bad_files_are_named(tmp_path):
    good = write(tmp_path / 'good.wav', voices['waves']['voice000/00'].numpy())
    short = write(tmp_path / 'short.wav', voices['waves']['voice000/00'].numpy()[4000:7200])
    bad = [
        write(tmp_path / 'silent.wav', np.zeros(8000)),
        write(tmp_path / 'empty.wav', np.zeros(0)),
        tmp_path / 'text.wav',
        tmp_path / 'none.wav',
    ]
    bad[2].write_text('hello')
    for f in bad:
        with pytest.raises(ValueError, match=f.name):
            read_wave(f)
    net = nn.Sequential(nn.Conv1d(24, 8, 5), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    used, e, said = embed_files(net, [good, *bad, short], LogMel(24))
    assert (
        used == [str(good), str(short)]
        and e.shape == (2, 8)
        and set(said) == {str(f) for f in [*bad, short]}
        and '0.20 s repeated' in said[str(short)]
    )
    with pytest.raises(ValueError, match='none of 4'):
        embed_files(net, bad, LogMel(24))


def test_a_part_is_read_without_the_rest(tmp_path):
    w = voices['waves']['voice000/00'].numpy()[:16000]
    f, slow, short = (
        write(tmp_path / 'a.flac', w),
        write(tmp_path / 'b.wav', np.stack([w[::2], w[::2]], 1), 8000),
        write(tmp_path / 'c.ogg', w[:3000]),
    )
    part = read_part(f, 4000, pick=lambda k: k - 1)
    assert torch.allclose(part, torch.from_numpy(w[-4000:]), atol=1e-3)
    for g in (f, slow, short):
        assert read_part(g, 4000).shape == (4000,) and read_part(g, 4000).abs().max() > 1e-3
    whole = f.read_bytes()
    f.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ValueError, match='a.flac'):
        [read_part(f, 4000, pick=lambda k: k - 1) for _ in range(2)]


@pytest.mark.parametrize('keep', [True, False])
def test_training_does_without_bad_recordings(tmp_path, keep):
    root = folder(tmp_path, 2, 3)
    (root / 'voice000' / '01.wav').write_text('no sound')
    files = [(str(f), f.parent.name) for f in sorted(root.rglob('*.wav'))]
    d = Recordings(files, ['voice000', 'voice001'], 0.5)
    d.room *= keep  # in memory, or read part by part
    with pytest.warns(UnusualRecording, match='voice000/01.wav'):
        x, label = d[1]
    assert x.shape == (8000,) and label == 0 and d[2][1] == 0
    with warnings.catch_warnings():  # named once
        warnings.simplefilter('error')
        d[1]
    for f in root.glob('voice000/*.wav'):
        f.write_text('no sound')
    d = Recordings(files, ['voice000', 'voice001'], 0.5)
    with pytest.raises(ValueError, match='voice000'), pytest.warns(UnusualRecording):
        d[0]


def test_bad_trials_are_named_before_anything_runs(tmp_path):
    root = folder(tmp_path)
    (root / 't.txt').write_text('1 voice000/00.wav voice000/01.wav\n0 voice000/00.wav voice001/00.wav\n')
    assert len(speaker(root, root / 't.txt', valid=0.5).test) == 2
    (root / 'voice001' / '00.wav').write_text('no sound')
    with pytest.raises(ValueError, match='1 of 3 recordings of the trials.*voice001/00.wav'):
        speaker(root, root / 't.txt', valid=0.5)


def test_same_base_names_are_different_files(tmp_path):
    a, b = (write(tmp_path / n / '00001.wav', voices['waves'][f'voice00{i}/00'].numpy()) for i, n in enumerate('ab'))

    class Precise(nn.Module):
        def forward(self, x):
            return x.double()

    net = nn.Sequential(Precise(), nn.Conv1d(24, 8, 5).double(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    used, e, _ = embed_files(net, [a, b], LogMel(24))
    assert (
        used == [str(a), str(b)]
        and off(e[0], e[1]) > 1e-6
        and off(embed_files(net, [b, a], LogMel(24))[1][1], e[0]) < 1e-9
    )  # another place in the batch


def test_crops_are_balanced_and_seeded():
    from nas_suite.training import batches

    files = [
        (f, s) for f, s in voices['train'] if not (s == 'voice001' and f.endswith(('1', '2', '3')))
    ]  # one with a single recording
    d = Recordings(files, sorted({s for _, s in files}), 0.5, waves=voices['waves'])
    order = d.order(torch.Generator().manual_seed(3))
    n = torch.bincount(d.labels[order], minlength=len(d.speakers))
    assert len(order) == len(d) and n.max() - n.min() <= 1

    def first(start):
        x, y = next(batches(d, 4, seed=1, start=start))
        return x, y

    it = batches(d, 4, seed=1)
    [next(it) for _ in range(5)]
    x, y = next(it)
    assert torch.equal(x, first(5)[0]) and torch.equal(y, first(5)[1]) and x.shape == (4, 8000)


@pytest.mark.parametrize('folders', [False, True])
def test_disturbances(tmp_path, folders):
    x = torch.stack([voices['waves'][f][:8000] for f, _ in voices['train'][:6]])
    more = {}
    if folders:
        for kind in ('music', 'speech', 'noise'):
            write(tmp_path / 'noise' / kind / 'a.wav', np.random.default_rng(0).normal(size=5000) * 0.1)
        write(tmp_path / 'rooms' / 'r.wav', np.array([0, 0, 1.0, 0.5, 0.2, 0.1] * 50))
        more = dict(noise=tmp_path / 'noise', rooms=tmp_path / 'rooms')
    d, g = Disturb(share=1.0, **more), lambda s: torch.Generator().manual_seed(s)
    y = d(x, g(0))
    assert y.shape == x.shape and y.isfinite().all() and torch.equal(y, d(x, g(0))) and not torch.equal(y, d(x, g(1)))
    assert torch.equal(Disturb(share=0.0)(x, g(0)), x)
    with pytest.raises(ValueError, match='nothing'):
        Disturb(share=1.0, noise=tmp_path / 'nothing')(x, g(0))


def test_noise_has_the_level_it_says():
    d, x, found = Disturb(share=1.0), voices['waves']['voice000/00'][None, :16000], []
    for s in range(60):
        y = d(x, torch.Generator().manual_seed(s))
        g = torch.Generator().manual_seed(s)
        torch.rand(1, generator=g)
        if int(torch.randint(3, (), generator=g)) == 0:
            found.append(20 * math.log10(x.std() / (y - x).std()))
    assert len(found) > 8 and min(found) > -0.1 and max(found) < 15.1


def folder(tmp_path, speakers=6, n=3):
    for f, w in voices['waves'].items():
        s, u = f.split('/')
        if int(s[5:]) < speakers and int(u) < n:
            write(tmp_path / s / f'{u}.wav', w.numpy()[:12000])
    return tmp_path


def test_speaker_folders(tmp_path):
    root = folder(tmp_path)
    found = speaker_folders.load(root)
    assert (
        not {s for _, s in found['train']} & set(found['speakers'].values())
        and len(set(found['speakers'].values())) == 2
    )
    (root / 't.txt').write_text('1 voice000/00.wav voice000/01.wav\nvoice000/00.wav voice001/00.wav nontarget\n')
    found = speaker_folders.load(root, root / 't.txt')
    assert [t[0] for t in found['trials']] == [True, False] and {s for _, s in found['train']} == {
        f'voice00{i}' for i in range(2, 6)
    }
    for text, message in (
        ('1 voice000/00.wav\n', 'line 1'),
        ('1 voice000/00.wav voice000/09.wav\n', '09.wav'),
        ('1 voice000/00.wav voice001/00.wav\n', 'disagrees'),
        ('\n', 'no trials'),
    ):
        (root / 't.txt').write_text(text)
        with pytest.raises(ValueError, match=message):
            speaker_folders.load(root, root / 't.txt')
    with pytest.raises(ValueError, match='no recordings'):
        speaker_folders.load(root / 'voice000')


def vox(tmp_path):
    for i in range(4):
        for v in 'ab':
            for u in range(2):
                write(
                    tmp_path / 'voxceleb1' / 'wav' / f'id1000{i}' / v / f'0000{u}.wav',
                    voices['waves'][f'voice00{i}/0{u}'].numpy()[:8000],
                )
    for i in range(3):
        write(
            tmp_path / 'voxceleb2' / 'dev' / f'id0000{i}' / 'x' / '00001.wav',
            voices['waves'][f'voice01{i % 2}/00'].numpy()[:8000],
        )
    (tmp_path / 'veri_test2.txt').write_text(
        '1 id10000/a/00000.wav id10000/b/00000.wav\n0 id10000/a/00000.wav id10001/a/00001.wav\n'
    )
    return tmp_path


def test_voxceleb(tmp_path, monkeypatch):
    root = vox(tmp_path)
    with pytest.raises(ValueError, match='2 trials; O-cleaned has 37611'):
        voxceleb.load(root)
    found = voxceleb.load(root, count=False)
    assert (
        len(found['train']) == 3
        and {s for _, s in found['train']} == {'id00000', 'id00001', 'id00002'}
        and set(found['speakers'].values()) == {'id10000', 'id10001'}
        and len(found['trials']) == 2
    )
    assert {s for _, s in voxceleb.load(root, train='voxceleb1', count=False)['train']} == {'id10002', 'id10003'}
    with pytest.raises(ValueError, match='veri_test.txt'):
        voxceleb.load(root, 'O-original')
    for name, (file, _) in voxceleb.lists.items():
        (root / file).write_text(
            'id10000/a/00000.wav id10000/b/00000.wav target\nid10000/a/00000.wav id10001/a/00001.wav nontarget\n'
        )
        assert len(voxceleb.load(root, name, 'voxceleb2', count=False)['trials']) == 2
        if name[0] != 'O':
            with pytest.raises(ValueError, match='training speakers'):
                voxceleb.load(root, name, 'voxceleb1', count=False)
    monkeypatch.setitem(voxceleb.lists, 'O-cleaned', ('veri_test2.txt', 2))
    with pytest.raises(ValueError, match='3 speakers for training; voxceleb2 has 5994'):
        voxceleb.load(root)
    monkeypatch.setattr(voxceleb, 'people', dict(voxceleb1=2, voxceleb2=3))
    with pytest.raises(ValueError, match='no validation trials'):
        speaker(root, valid=['id00000'])
    (root / 'voxceleb2').rename(root / 'away')
    assert {s for _, s in voxceleb.load(root)['train']} == {'id10002', 'id10003'}
    (root / 'voxceleb1' / 'wav' / 'id10001' / 'a' / '00001.wav').unlink()
    with pytest.raises(ValueError, match='1 of 3 recordings'):
        voxceleb.load(root, count=False)


def test_overlapping_speakers_are_refused():
    wrong = {
        **voices,
        'train': voices['train'] + [(f, s) for f, s in voices['speakers'].items() if f in {voices['trials'][0][1]}],
    }
    with pytest.raises(ValueError, match='in the training and in the trials'):
        speaker(wrong)


def test_embeddings_of_mixed_lengths():
    net = tiny_space().eval()
    from nas_suite.choices import largest
    from nas_suite.extraction import extract

    net = extract(net, largest(net)).double()
    fs = [torch.randn(24, n, dtype=torch.float64) for n in (40, 60, 40, 33)]
    e = embeddings(net, fs)
    assert (
        torch.equal(embeddings(net, iter(fs), room=1), embeddings(net, fs, batch_size=1))
        and off(embeddings(net, iter(fs), room=1), e) < 1e-9
    )
    for f, v in zip(fs, e):
        assert off(F.normalize(net.eval()(f[None]))[0], v) < 1e-9


def test_synthetic_voices_are_seeded():
    a, b = synthetic_voices.load(12, 2), synthetic_voices.load(12, 2)
    assert all(torch.equal(a['waves'][f], b['waves'][f]) for f in a['waves']) and not torch.equal(
        a['waves']['voice000/00'][:1000], synthetic_voices.load(12, 2, seed=1)['waves']['voice000/00'][:1000]
    )
    groups = (
        {s for _, s in a['train']},
        {a['speakers'][f] for _, x, y in a['valid'] for f in (x, y)},
        {a['speakers'][f] for _, x, y in a['trials'] for f in (x, y)},
    )
    assert not groups[0] & groups[1] and not groups[1] & groups[2] and not groups[0] & groups[2]


def small_evolution(space, epochs=1):
    return Evolution(
        Supernet(five_stages(space, epochs), rule='uniform', distill='none', batch_size=8),
        score='accuracy',
        population=8,
        parents=3,
        generations=2,
        finalists=3,
    )


def test_bad_files_are_known_before_training(tmp_path):
    root = folder(tmp_path / 'data')
    write(root / 'voice000' / '00.wav', np.zeros(8000))
    (root / 't.txt').write_text('1 voice000/00.wav voice000/01.wav\n0 voice000/01.wav voice001/00.wav\n')
    with pytest.raises(ValueError, match='1 of 3 recordings of the trials.*silent.*00.wav'):
        speaker(root, root / 't.txt')
    with pytest.raises(ValueError, match='p_target is out of range: 2.0; it is a number, above 0, below 1'):
        tiny_task(p_target=2.0)
    with pytest.raises(ValueError, match='of which 1 count'):
        as_norm(torch.zeros(1), torch.ones(1, 4), torch.ones(1, 4), torch.randn(5, 4), top=1)


def test_bad_noise_is_left_out(tmp_path):
    noise, g = tmp_path / 'noise', lambda s: torch.Generator().manual_seed(s)
    for i in range(3):
        write(noise / f'{i}.wav', np.random.default_rng(i).normal(size=9000) * 0.1)
    (noise / '0.wav').write_text('no sound')
    x = voices['waves']['voice000/00'][None, :8000].repeat(16, 1)
    d = Disturb(noise=noise, rooms=noise, share=1.0)
    with pytest.warns(UnusualRecording, match='0.wav.*without it') as said:
        first = d(x, g(1))
    assert len([w for w in said if '0.wav' in str(w.message)]) == 1
    assert torch.equal(d(x, g(1)), first)  # whether it is known already or not
    for i in (1, 2):
        (noise / f'{i}.wav').write_text('no sound')
    with pytest.raises(ValueError, match='none of 3 recordings can be used'), pytest.warns(UnusualRecording):
        Disturb(noise=noise, rooms=noise, share=1.0)(x, g(1))


def test_kept_recordings_keep_their_level():
    quiet = voices['waves']['voice000/00'] * 1e-4
    r = Recordings([('q', 'a')], ['a'], 0.5, waves=dict(q=quiet))
    crop = r[0][0]
    assert crop.unique().numel() > 1000 and float(crop.abs().max()) <= float(quiet.abs().max()) * 1.001


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    torch.manual_seed(0)
    space, folder = tiny_space(), tmp_path_factory.mktemp('speaker') / 'run'
    cost = macs(space, space.input_shape)
    from nas_suite.choices import largest, smallest

    budget = (cost(smallest(space)) + cost(largest(space))) / 2
    return search.speaker(
        tiny_task(), macs=budget, space=space, strategy=small_evolution(space), run_dir=folder, progress=False
    ), budget


def test_search_verify_embed(run, tmp_path):
    found, budget = run
    m = found.metrics['extracted']
    assert (
        m['eer_interval'][0] <= m['eer'] <= m['eer_interval'][1]
        and m['min_dcf_interval'][0] <= m['min_dcf'] <= m['min_dcf_interval'][1]
        and set(found.metrics) == {'supernet', 'extracted'}
    )
    assert found.costs['macs'] <= budget and 0 <= m['eer'] <= 1 and found.figures['threshold'] is not None
    a, b = (
        write(tmp_path / f'{n}.wav', voices['waves'][n.replace('-', '/')].numpy())
        for n in ('voice010-00', 'voice011-00')
    )
    same = found.use.verify(a, a)
    assert same['score'] > 0.999 and same['same'] and same['threshold'] == found.figures['threshold']
    loaded = search.load(found.run_dir)
    one, two = found.use.verify(a, b), loaded.use.verify(a, b)
    assert (
        math.isclose(one['score'], two['score'], abs_tol=1e-4)
        and one == found.use.verify(a, b)
        and one['same'] == (one['score'] >= one['threshold'])
    )
    with pytest.warns(UnusualRecording, match='s.wav: 2 channels.*8000 Hz.*0.20 s repeated'):
        assert found.use.embed(
            write(tmp_path / 's.wav', np.random.default_rng(0).normal(size=(1600, 2)) * 0.1, 8000)
        ).shape == (16,)
    samples = voices['waves']['voice010/00']
    assert torch.equal(found.use.embed(samples), found.use.embed(samples.numpy()))
    with pytest.raises(ValueError, match='samples are'):
        found.use.embed(np.ones((8000, 2)))
    assert torch.equal(found.use.embed(np.stack([samples.numpy()] * 2)), found.use.embed(samples))  # two channels
    assert found.use.embed(a).shape == (16,) and math.isclose(float(found.use.embed(a).norm()), 1.0, abs_tol=1e-5)
    assert found.use.verify(a, b, threshold=-1.0)['same'] and not found.use.verify(a, b, threshold=1.1)['same']


@pytest.mark.parametrize(
    'change, says',
    [
        (dict(margin=0.5), 'margin'),
        (dict(disturb=False), 'disturb'),
        (dict(p_target=0.05), 'p_target'),
        (dict(seed=3), 'recordings'),
    ],
)
def test_what_decides_a_run_is_in_its_folder(run, change, says):
    found, budget = run
    space = tiny_space()
    data = dict(voices, trials=voices['trials'][:-1]) if says == 'recordings' else voices
    task = speaker(data, **(dict(bands=24, seconds=0.5, embedding=16) | change))
    with pytest.raises(ValueError, match=f'holds another run; it differs in.*{says}'):
        search.speaker(
            task, macs=budget, space=space, strategy=small_evolution(space), run_dir=found.run_dir, progress=False
        )


def test_a_specialized_network_verifies(run, tmp_path):
    found, budget = run
    (one,) = search.specialize(found.run_dir, macs=budget, space=tiny_space(), task=tiny_task(), device='cpu')
    kept = search.load(one.save(tmp_path / 'one'))
    a, b = (write(tmp_path / f'{n}.wav', voices['waves'][f'{n}/00'].numpy()) for n in ('voice010', 'voice011'))
    first, second = one.use.verify(a, b), kept.use.verify(a, b)
    assert first['threshold'] == second['threshold'] == one.figures['threshold'] and math.isclose(
        first['score'], second['score'], abs_tol=1e-4
    )
    r = cli('verify', tmp_path / 'one', a, b)
    assert r.returncode == 0 and f"threshold {first['threshold']:.4f}" in r.stdout, r.stderr
    with pytest.raises(ValueError, match='no run of its own'):
        kept.plot()
    other = speaker(dict(voices, trials=voices['trials'][:-1]), bands=24, seconds=0.5, embedding=16)
    with pytest.raises(ValueError, match='the data of the run in .* have changed .recordings'):
        search.specialize(found.run_dir, macs=budget, space=tiny_space(), task=other, device='cpu')


def test_the_threshold_is_of_whole_recordings(run):
    found, _ = run
    task = tiny_task()
    whole = task.valid.whole()
    assert (
        task.valid.seconds == 3.0
        and whole.seconds is None
        and len({x.shape[1] for x in whole.features(task.front)}) > 1
    )
    assert math.isclose(task.evaluate(found.model, whole)['threshold'], found.figures['threshold'], abs_tol=1e-4)


def test_onnx_takes_any_length_and_says_what_it_takes(run):
    import onnxruntime

    found, _ = run
    s = onnxruntime.InferenceSession(str(found.run_dir / 'model.onnx'), providers=['CPUExecutionProvider'])
    for n in (16, 51, 200):
        x = torch.randn(3, 24, n)
        with torch.no_grad():
            assert np.abs(s.run(None, {s.get_inputs()[0].name: x.numpy()})[0] - found.model(x).numpy()).max() < 1e-3
    meta = s.get_modelmeta().custom_metadata_map
    assert meta['sample_rate'] == '16000' and meta['feature_dim'] == '24' and meta['output_dim'] == '16'


def test_stage_report_is_an_error_rate(run):
    found, _ = run
    probes = [h for h in found.history if 'probes' in h]
    assert [h['stage'] for h in probes] == ['largest', 'kernel', 'depth', 'width 1', 'width 2'] and all(
        0 <= v <= 1 for h in probes for v in h['probes'].values()
    )
    from nas_suite.report import figures, summary

    page = (found.run_dir / 'report.html').read_text()
    assert (
        'parts' in figures(found)
        and all(w in page for w in ('eer', 'false alarms', 'two speakers', 'over speakers', 'threshold'))
        and '0.5 s of speech' in page
    )
    assert 'p_target 0.01' in summary(found) and 'real-time' not in summary(found)


def cli(*args):  # in this process: torch takes seconds to import
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    return types.SimpleNamespace(returncode=stop.value.code, stdout=out.getvalue(), stderr=err.getvalue())


def test_command_line(run, tmp_path):
    found, _ = run
    root = folder(tmp_path / 'data')
    bad = root / 'voice000' / 'bad.wav'
    bad.write_text('no sound')
    r = cli('verify', found.run_dir, root / 'voice000' / '00.wav', root / 'voice001' / '00.wav')
    assert r.returncode == 0 and 'score' in r.stdout and 'threshold' in r.stdout, r.stderr
    r = cli('embed', found.run_dir, root, '--out', tmp_path / 'e.npz')
    e = np.load(tmp_path / 'e.npz')
    assert (
        r.returncode == 0 and 'bad.wav' in r.stderr and len(e['paths']) == 18 and e['embeddings'].shape == (18, 16)
    ), r.stderr
    assert any(p.endswith('voice003/01.wav') for p in e['paths'])
    assert cli('embed', found.run_dir, root / 'voice000', '--out', tmp_path / 'e.parquet').returncode == 0
    import pyarrow.parquet

    t = pyarrow.parquet.read_table(tmp_path / 'e.parquet').to_pydict()
    for q, v in zip(t['path'], t['embedding']):
        assert np.allclose(
            v,
            e['embeddings'][[p.endswith(Path(q).name) and 'voice000' in p for p in e['paths']].index(True)],
            atol=1e-5,
        )
    (root / 't.txt').write_text(
        '\n'.join(
            f'{int(a == b)} voice00{a}/0{i}.wav voice00{b}/0{j}.wav'
            for a in range(4)
            for b in range(4)
            for i in range(2)
            for j in range(2, 3)
        )
        + '\n1 voice000/bad.wav voice000/00.wav\n'
    )
    r = cli('specialize', found.run_dir, '--macs', '100M')
    assert r.returncode == 2 and 'give the task' in r.stderr
    r = cli(
        'score-trials',
        found.run_dir,
        root / 't.txt',
        '--out',
        tmp_path / 'scores.txt',
        '--plot',
        tmp_path / 'det.png',
        '--cohort',
        root,
        '--top',
        '5',
    )
    lines = (tmp_path / 'scores.txt').read_text().splitlines()
    assert (
        r.returncode == 0
        and 'EER' in r.stdout
        and 'p_target 0.01' in r.stdout
        and '1 of 33 trials are left out' in r.stderr
        and r.stdout.count('over speakers') == 2
        and len(lines) == 32
        and (tmp_path / 'det.png').stat().st_size > 1000
    ), r.stderr
    for args, word in (
        (('verify', found.run_dir, bad, root / 'voice001' / '00.wav'), 'bad.wav'),
        (('embed', found.run_dir, root, '--out', tmp_path / 'e.npz'), 'exists'),
        (('embed', found.run_dir, root, '--out', tmp_path / 'e.txt'), '.npz'),
        (('search', 'speaker', root), 'budget'),
        (('search', 'speaker', tmp_path / 'none', '--macs', '1M'), 'none'),
        (('score-trials', found.run_dir, tmp_path / 'none.txt', '--out', tmp_path / 's2.txt'), 'none.txt'),
    ):
        r = cli(*args)
        assert r.returncode == 2 and word in r.stderr and len(r.stderr.strip().splitlines()) <= 2, (args, r.stderr)


def test_gated_runs_on_this_space_and_task(tmp_path, unwritten):
    torch.manual_seed(0)
    space, task = tiny_space(), tiny_task(held=0.3)
    found = search.speaker(
        task,
        macs='300k',
        space=space,
        strategy=Gated(epochs=2, batch_size=8),
        retrain_epochs=1,
        run_dir=tmp_path / 'r',
        progress=False,
    )
    assert found.costs['macs'] <= 300e3 and 'eer' in found.metrics['retrained']


def test_training_goes_on_with_its_head(tmp_path):
    def train(stop=None, folder=tmp_path):
        torch.manual_seed(0)
        space, task = tiny_space(), tiny_task()

        def on_step(step):
            if step == stop:
                raise KeyboardInterrupt

        s = Supernet(five_stages(space, 1), rule='uniform', distill='none', batch_size=8)
        try:
            s.train(space, task, Loop(checkpoint=folder / 'c.pt', progress=False, save_s=0.0, on_step=on_step))
        except KeyboardInterrupt:
            return None
        return space.state_dict()

    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').mkdir()
    whole = train(folder=tmp_path / 'a')
    assert train(stop=7, folder=tmp_path / 'b') is None
    rest = train(folder=tmp_path / 'b')
    assert all(torch.equal(whole[k], rest[k]) for k in whole)
