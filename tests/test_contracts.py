"What every space and every strategy keeps to, whoever wrote it: a new one is tested by being listed here."
import json, math, pickle, random, re, sys
from copy import deepcopy
from functools import cache
from pathlib import Path
import nbformat, pytest, torch
from torch.utils.data import TensorDataset
from nas_suite.choices import *
from nas_suite.costs import *
from nas_suite.extraction import *
from nas_suite.latency.tables import _units
from nas_suite.relaxation import modes
from nas_suite.spaces.mobile import ofa_mobilenet_v3, proxyless
from nas_suite.spaces.resnet import ofa_resnet50
from nas_suite.spaces.segmenter import Segmenter, ssr_segmenter
from nas_suite.spaces.tdnn import efficient_tdnn
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.regularized import Regularized
from nas_suite.tasks.classification import Classification
from nas_suite.tasks.segmentation import Segmentation
from nas_suite.training import Loop, load_checkpoint, seeded
sys.path.insert(0, str(Path(__file__).parent))
from spaces import Builder, fixed, off, rows, shaken

root, D = Path(__file__).parents[1], torch.float64

def tutorial():
    "The network that the tutorial makes searchable: a plain nn.Module."
    cells = [c.source for c in nbformat.read(root/'nbs/tutorials/01_your_own_network.ipynb', 4).cells if c.cell_type == 'code']
    code, = (c for c in cells if 'class Searchable' in c)
    exec(code[:code.index('torch.manual_seed')], names := dict(torch=torch, nn=torch.nn))
    space = names['Searchable'](3)
    space.input_shape = 1, 8, 8
    return space
def mobile(**more): return proxyless(**dict(classes=3, image_size=8, in_channels=1, stem=8, first=0, widths=(8,), depths=(3,), last=16, kernels=(3,), expands=(1, 2)) | more)
def drawn(seed, dims): # a random space of the core's tests, of what relaxation is defined for
    r = random.Random(seed)
    return Builder(lambda *o: o[r.randrange(len(o))], dims, 24, True).net()

# name -> how it is made, and how many networks are in it, counted by hand
SPACES = {
    'proxyless': (mobile, 2*3*3),
    'proxyless, wide': (lambda: mobile(in_channels=2, image_size=12, first=8, widths=(8, 12), depths=(1, 2), kernels=(3, 5, 7), expands=(1, 3), dropout=.2), 6 * 6*7),
    'proxyless, one path': (lambda: mobile(depths=(1,), expands=(2,)), 1),
    'proxyless, restricted': (lambda: restrict(mobile(), {'blocks.1*': ['zero', 'mb2_k3'], 'blocks.0*': 'mb1_k3'}), 1*2*3),
    'once-for-all': (lambda: ofa_mobilenet_v3(classes=3, image_size=8, in_channels=1, widths=(8,), depths=(1, 2), kernels=(3, 5), expands=(2, 3), stem=8, first=8, last=(16, 16)), 4 + 4*4),
    'resnet': (lambda: ofa_resnet50(classes=3, image_size=8, in_channels=1, widths=(32,), base_depths=(1,), depths=(0, 1), strides=(1,), ratios=(.5, 1.), expands=(.5,), stem=32, stem_block=False), 2*2*2 * 2),
    'tdnn': (lambda: efficient_tdnn(4, 3, widths=(8, 16), last=(8, 12), kernels=(3,), depths=(1, 2), scale=4, attention=4, frames=12), 2*2 * (2 + 2*2)),
    'tdnn, dynamic': (lambda: efficient_tdnn(4, 3, widths=8, last=8, kernels=(1, 3), depths=2, scale=4, attention=4, frames=12, dynamic=(1, 2)), 2 * (2*2)**2),
    'segmenter': (lambda: ssr_segmenter(3, (16, 24), channels=(8, 12), depths=(1, (1, 2)), dilations=(1,), factors=(1, 2), cuts=(4, 0), stem=6, grids=(1, 2), branch=4, low=8, head=12), 2*2*2 * (2*2*2 + (2*2*2)**2)),
    'tutorial': (tutorial, 3*2*3*4),
    'all kinds': (fixed, 2*2 * ((1+2+2) + (3*3 + 2*(4*4-3*3)))), # a kernel that two blocks share counts where one of them is a conv
    'operators': (lambda: drawn(10, 1), 3*(1+1+2)),
    'resolution': (lambda: drawn(16, 2), 2*2*3*2),
    'depths': (lambda: drawn(19, 2), 2*(1 + 2*2 + 2*2)),
    'widths': (lambda: drawn(25, 1), 3*2*2*2)}

def made(name, seed=0):
    torch.manual_seed(seed)
    return shaken(SPACES[name][0](), seed).eval()
def inputs(space, n=3, dtype=torch.float32, seed=0): return torch.randn(n, *space.input_shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
def run(space, x, arch):
    with torch.no_grad(), selected(space, arch): return space(x)
def some(space, n=4, seed=0): return [largest(space), smallest(space), *decode(space, sample(space, n, torch.Generator().manual_seed(seed)))]
def product(space): return math.prod(len(c.survivors) for c in choices(space).values())
def one_hot(space, arch): return {n: torch.eye(len(c), dtype=D)[c.options.index(arch[n]) if n in arch else c.survivors[0]] for n,c in choices(space).items()}
def uniform(space): return {n: c.alive.double() / c.alive.sum() for n,c in choices(space).items()}
def steady(f, *args):
    "The same call under the same random numbers."
    torch.manual_seed(0)
    return f(*args)

@pytest.mark.parametrize('name', SPACES)
class TestSpace:
    def test_architectures(self, name):
        space = made(name)
        every = rows(space)
        assert count(space) == len(every) == SPACES[name][1]
        archs = decode(space, every)
        assert torch.equal(encode(space, archs), every) and json.loads(json.dumps(archs)) == archs
        assert len({json.dumps(a, sort_keys=True) for a in archs}) == len(archs)
        assert all(a in archs for a in some(space)) and list(choices(space)) == list(choices(made(name, 1)))
        for n,c in choices(space).items():
            assert {a[n] for a in archs if n in a} == {c.options[i] for i in c.survivors}, f"no network has some option of {n}"
            with pytest.raises(ValueError, match=f'{re.escape(n)} has no option .nonsense.; its options are'): encode(space, {**{k: c.options[c.survivors[0]] for k,c in choices(space).items()}, n: 'nonsense'})

    def test_runs(self, name):
        space, x = made(name), inputs(made(name))
        archs, before = some(space), {k: v.clone() for k,v in space.state_dict().items()}
        outs = [run(space, x, a) for a in archs]
        for a,y in zip(archs, outs):
            assert y.shape == (3, 3, *(space.input_shape[1:] if name == 'segmenter' else ())) and y.isfinite().all()
        assert count(space) == 1 or not torch.equal(outs[0], outs[1])
        assert selection() is None and all(torch.equal(v, before[k]) for k,v in space.state_dict().items())
        with pytest.raises(RuntimeError, match='nothing is selected') if SPACES[name][1] > 1 else pytest.raises(RuntimeError): space(x)
        space, x = space.double(), x.double()
        assert all(off(run(space, x[1:], a), run(space, x, a)[1:]) < 1e-9 for a in archs) # samples do not see each other

    def test_extraction(self, name):
        space, x = made(name), inputs(made(name))
        for a in some(space):
            net = extract(space, a)
            assert check(space, a, net) == 0. and torch.equal(net(x), run(space, x, a))
            assert all(type(m).__module__.startswith('torch.') or type(m).__mro__[1] is torch.fx.GraphModule for m in net.modules())
            kept = pickle.dumps(net)
            assert b'nas_suite' not in kept and torch.equal(pickle.loads(kept)(x), net(x))
            mine = {p.data_ptr() for p in (*space.parameters(), *space.buffers())}
            assert not mine & {p.data_ptr() for p in (*net.parameters(), *net.buffers())} and not any('alpha' in n or 'alive' in n for n in net.state_dict())
        space.train()
        net, other = extract(space, largest(space)), deepcopy(space)
        def trained(f): # in training too: the output, and what batch norm learns from it
            with torch.no_grad(): return steady(f)
        with selected(other, largest(space)): want = trained(lambda: other(x))
        torch.testing.assert_close(trained(lambda: net(x)), want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net.eval()(x), run(other.eval(), x, largest(space)), rtol=1e-4, atol=1e-5)

    def test_units_that_are_timed_run(self, name):
        space = made(name)
        for net,shapes in _units(space, space.input_shape, 1)[2].values(): net.eval()(*(torch.empty(s, device='meta') for s in shapes))

    def test_costs(self, name):
        space = made(name)
        shape = space.input_shape
        drawn = sample(space, 50, torch.Generator().manual_seed(1))
        for cost,counted in (macs(space, shape), lambda net: count_macs(net, shape)), (params(space, shape), count_params):
            for a in some(space): assert cost(a) == counted(extract(space, a)) > 0
            assert cost.batch(drawn).tolist() == [cost(a) for a in decode(space, drawn)]
            for a in some(space, 2): assert float(cost.expected(one_hot(space, a))) == pytest.approx(cost(a), rel=1e-9)
            every = torch.cartesian_prod(*(torch.tensor(c.survivors) for c in choices(space).values())).view(-1, len(choices(space)))
            assert len(every) == product(space) and float(cost.expected(uniform(space))) == pytest.approx(float(cost.batch(canonical(space, every)).mean()), rel=1e-9)
            low, arch = cheapest(cost)
            assert low == cost(arch) == float(cost.batch(rows(space)).min())
            for a in some(space, 1): assert sum(cost.parts(a).values()) == pytest.approx(cost(a))

    def test_partial_extraction_and_restriction(self, name):
        space, x = made(name), inputs(made(name))
        arch = sample(space, generator=torch.Generator().manual_seed(2))
        half = {n: arch[n] for n in list(arch)[::2]}
        view, fits = restrict(space, half), [a for a in decode(space, rows(space)) if all(a.get(n, o) == o for n,o in half.items())]
        assert count(view) == len(fits) and all(a in fits for a in some(view))
        for n,o in half.items(): assert [choices(view)[n].options[i] for i in choices(view)[n].survivors] == [o]
        assert {p.data_ptr() for p in weights(view)} == {p.data_ptr() for p in weights(space)} and count(space) == SPACES[name][1]
        outside = next((a for a in decode(space, rows(space)) if a not in fits), None)
        if outside is not None:
            with pytest.raises(ValueError, match='has no option'): encode(view, outside)
        small = extract(space, half)
        if is_complete(space, half): return
        assert count(small) == len(fits) and sum(p.numel() for p in weights(small)) <= sum(p.numel() for p in weights(space))
        cost, less = macs(space, space.input_shape), macs(small, space.input_shape)
        for a in fits[::max(1, len(fits)//4)]:
            want = run(space, x, a)
            assert torch.equal(run(view, x, a), want) and torch.equal(extract(small, a)(x), want) and less(a) == cost(a)
            torch.testing.assert_close(run(small, x, a), want, rtol=1e-5, atol=1e-6)

    def test_copies(self, name):
        space, x = made(name), inputs(made(name))
        archs = some(space, 2)
        want = [run(space, x, a) for a in archs]
        with selected(space, archs[0]): copy = deepcopy(space)
        with torch.no_grad():
            for p in space.parameters(): p.add_(1.)
        assert all(torch.equal(run(copy, x, a), y) for a,y in zip(archs, want)) and not torch.equal(run(space, x, archs[0]), want[0])
        other = made(name, 1)
        other.load_state_dict(copy.state_dict())
        assert all(torch.equal(run(other, x, a), y) for a,y in zip(archs, want))
        lone = restrict(made(name), archs[0])
        other.load_state_dict(lone.state_dict()) # survivors are part of the state
        assert count(other) == 1 and largest(other) == archs[0]

    @pytest.mark.parametrize('dtype, close', [(D, 1e-4), (torch.bfloat16, .5)], ids=['float64', 'bfloat16'])
    def test_precision(self, name, dtype, close):
        space = made(name)
        x, ours = inputs(space), deepcopy(space).to(dtype)
        for a in some(space, 1):
            y, net = run(ours, x.to(dtype), a), extract(ours, a)
            assert y.dtype == dtype and {p.dtype for p in net.parameters()} == {dtype} and torch.equal(net(x.to(dtype)), y)
            want = run(space, x, a)
            assert float((y - want).abs().max()) <= close * max(1., float(want.abs().max()))
        assert macs(ours, space.input_shape)(largest(space)) == count_macs(extract(space, largest(space)), space.input_shape)

STRATEGIES = {f'gated, {mode}': lambda mode=mode, **more: Gated(**dict(epochs=2, batch_size=4, gradient=mode) | more) for mode in (*modes, 'reinforce')}
STRATEGIES['regularized'] = lambda **more: Regularized(**dict(epochs=2, batch_size=4, shrinks=3) | more)
STRATEGIES['evolution'] = lambda **more: Evolution(**dict(supernet=dict(epochs=2, batch_size=4), score='accuracy', population=6, parents=2, generations=2, finalists=2) | more)
CHANGES = dict(evolution=dict(score='predictor', samples=30), regularized=dict(regularizer='entropy', weights='softmax', strength=dict(operator=1., depth=.3, width=.2))) # settings that a config must tell; default: those of gated

def task_for(space, n=12):
    "Images, or signals, whose class, or that of their pixels, is the sign of their mean."
    x = inputs(space, 2*n)
    y = (torch.arange(2*n) % 3)
    x = x + (y - 1).view(-1, *[1]*(x.ndim-1))
    if isinstance(space, Segmenter): y = y.view(-1, 1, 1).expand(-1, *space.input_shape[1:]).contiguous()
    a, b = TensorDataset(x[:n], y[:n]), TensorDataset(x[n:], y[n:])
    if isinstance(space, Segmenter): return Segmentation('signs', a, b, b, ['-', '0', '+'], space.input_shape)
    task = Classification('signs', a, b, b, 3, space.input_shape, shift=1)
    if x.ndim == 3: task.augment = None # signals are not shifted
    return task

@cache
def limits_of(name, share=.4):
    "MACs and parameters, both a share of the way from the cheapest to the most expensive network."
    space, out = made(name), []
    for cost in (macs(space, space.input_shape), params(space, space.input_shape)):
        c = cost.batch(rows(space))
        out.append((cost, float(c.min() + share * (c.max() - c.min()))))
    joint = torch.stack([cost.batch(rows(space)) <= b for cost,b in out]).all(0)
    return out if joint.any() else out[:1]

def same(a, b): return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k,v in a.items())

class Cut(Exception): pass

@pytest.mark.parametrize('name', SPACES)
@pytest.mark.parametrize('strategy', STRATEGIES)
class TestStrategy:
    def test_search(self, strategy, name, tmp_path):
        "One search straight through, and one that is cut off."
        make, limits, start = STRATEGIES[strategy], limits_of(name), made(name)
        space, task, given = deepcopy(start), task_for(start), start.state_dict()
        one = make()
        history = one.search(space, task, limits, Loop(1, checkpoint=tmp_path/'search.pt', progress=False)).history
        steps = 2 * len(task.train) // 4
        assert sorted({r['step'] for r in history}) == list(range(steps)) and json.loads(json.dumps(history)) == history
        if strategy.startswith('gated'): self.beliefs(space, limits, history, steps)
        assert all(v.isfinite().all() for v in space.state_dict().values()) and selection() is None
        assert any(not torch.equal(p, given[n]) for n,p in space.named_parameters() if 'alpha' not in n)
        arch = one.derive(space, limits)
        assert arch in decode(space, rows(space)) and all(cost(arch) <= b for cost,b in limits)
        assert check(space.eval(), arch, extract(space, arch)) == 0.
        self.cut_off(make, start, task, limits, tmp_path, steps, history, space, arch)

    def beliefs(self, space, limits, history, steps):
        "What a differentiable search notes and learns."
        for r in history:
            assert math.isfinite(r['loss']) and 0 <= r['entropy'] <= math.log(max(map(len, choices(space).values()))) + 1e-6
            assert set(r['probs']) == set(choices(space)) and all(sum(p) == pytest.approx(1, abs=1e-3) for p in r['probs'].values())
            assert set(r['cost']) == {c.name for c,_ in limits} and all(v > 0 for v in r['cost'].values())
        assert sum('arch_loss' in r for r in history) == steps - int(.3*steps)
        s = structure(space)
        for n,c,uses in zip(s.names, s.choices, s.where):
            dead = [i for i in range(len(c)) if i not in c.survivors]
            assert c.alpha.isfinite().all() and all(history[-1]['probs'][n][i] == 0 for i in dead)
            if len(c.survivors) > 1 and () in uses: assert float(c.alpha.detach().std()) > .01, f"{n} has learned nothing, and matters always"

    def cut_off(self, make, start, task, limits, tmp_path, steps, history, space, arch):
        "The same, cut off in its fourth step by an error, and gone on with."
        calls, plain = [], task.loss
        def loss(*a):
            calls.append(1)
            if len(calls) == 4: raise Cut # in its fourth step
            return plain(*a)
        task.loss = loss
        def go_on(): # another process knows only the file
            new = deepcopy(start)
            other = make()
            return other.search(new, task, limits, Loop(1, checkpoint=tmp_path/'cut.pt', progress=False, save_s=-1)).history, new, other
        with pytest.raises(Cut): go_on()
        assert selection() is None and load_checkpoint(tmp_path/'cut.pt')['step'] == 3
        rest, again, other = go_on()
        assert rest == history and len(calls) == steps + 1 and same(again.state_dict(), space.state_dict()) and other.derive(again, limits) == arch
        assert go_on()[0] == history and len(calls) == steps + 1       # what is finished is not done again

    def test_what_it_was_is_written_down(self, strategy, name):
        change = CHANGES.get(strategy, dict(alpha_lr=.5, every=3))
        s = STRATEGIES[strategy](**change)
        facts = json.loads(json.dumps(s.config()))
        assert type(s)(**facts).config() == facts and all(facts[k] == v for k,v in change.items()) and facts != STRATEGIES[strategy]().config()
