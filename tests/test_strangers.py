"What somebody tries first who has read the notebooks only: what is wrong is said in a sentence, what is right goes through."

import pytest, torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanAbsoluteError
from nas_suite import testing
from nas_suite.choices import Space, decode, largest, one_of, sample
from nas_suite.costs import cost_of, macs
from nas_suite.front.budgets import amounts
from nas_suite.front.export import export
from nas_suite.layers import ElasticBatchNorm, ElasticConv1d, ElasticDepth, ElasticEmbedding, ElasticLayerNorm, ElasticLinear
from nas_suite.layers import MixedOp
from nas_suite.strategies.base import Strategy, Trained
from nas_suite.strategies.black_box import BlackBox
from nas_suite.tasks.base import Metric, Task
from nas_suite.training import seeded


def says(words, check, *args, **settings):
    "A check refuses in these words, and in nothing but words."
    with pytest.raises((AssertionError, ValueError), match=words):
        check(*args, **settings)


# ---------------------------------------------------------------- spaces


class Shapeless(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = ElasticLinear(one_of(2, 4), 1)


class Small(Space):
    "An elastic convolution and what follows it, each of which may be made otherwise."

    def __init__(self, shape=(2, 8), **settings):
        super().__init__()
        self.input_shape, self.width = shape, one_of(4, 6)
        self.conv = ElasticConv1d(2, self.width, one_of(3, 5), **dict(padding='same', bias=False) | settings)
        self.norm = ElasticBatchNorm(self.width, dims=1)
        self.head = ElasticLinear(self.width, 3)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean(2))


def changed(forward):
    "A space whose forward is another one."
    return type('Changed', (Small,), dict(forward=forward))


def with_norm(dims):
    space = Small()
    space.norm = ElasticBatchNorm(space.width, dims=dims)
    return space


def unread():
    space = Small()
    space.unread = one_of(1, 2)
    return space


def unregistered():
    space = Small()
    layers = [ElasticLinear(3, one_of(2, 3))]
    space.head = nn.Sequential(space.head)
    space.head.forward = lambda x: layers[0](space.head[0](x))
    return space


kept = Small()


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: None, 'a space is an nn.Module; the function made None'),
        (None, 'give a function that makes a space, such as its class; found None'),
        (Small(), r'give a function that makes a space: lambda: Small\(...\); found a Small'),
        (lambda: Small, 'the function made the class Small itself'),
        (lambda classes: Small(), "the function that makes a space raises TypeError: .* argument: 'classes'"),
        (lambda: kept, 'gives the same space twice'),
        (lambda: nn.Sequential(Small()), 'Sequential has no input_shape'),
        (Shapeless, 'Shapeless has no input_shape'),
        (lambda: Small(8), r'input_shape of Small is a tuple of sizes, such as \(3, 32, 32\); found 8'),
        (lambda: Small((2, None)), r'input_shape of Small is a tuple of sizes.* found \(2, None\)'),
        (lambda: Small(torch.ones(2, 8)), 'input_shape of Small is a tuple of sizes'),
        (lambda: Small((3, 8)), r'does not run on inputs of input_shape \(3, 8\): in conv \(ElasticConv1d\)'),
        (lambda: Small((1, 2, 8)), r'does not run on inputs of input_shape \(1, 2, 8\): in conv \(ElasticConv1d\)'),
        (lambda: with_norm(2), r'in norm \(ElasticBatchNorm\): batch norm over 2 dimensions'),
        (changed(lambda self, x: None), 'forward of Changed gives no tensors'),
        (changed(lambda self, x: self.norm(self.conv(x)).mean()), 'one entry a sample'),
        (changed(lambda self, x: Small.forward(self, x) * torch.nan), 'gives values that are no finite numbers'),
        (changed(lambda self, x: Small.forward(self, x) + torch.rand(3)), 'gives something else each time'),
        (changed(lambda self, x: Small.forward(self, x - x.mean(0))), "a sample's output depends on the other samples"),
        (unregistered, 'is in no module of the selected space: .* to a Python list'),
        (unread, 'no layer reads unread: all of its options are the same network'),
    ],
)
def test_what_is_no_space(make, words):
    says(words, testing.check_space, make)


def test_a_plain_network_has_no_choices():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    net.input_shape = 2, 8
    says('Sequential has no choices', testing.check_space, lambda: net)


class Asked(Small):
    "A Python `if` on a choice."

    def __init__(self):
        super().__init__()
        self.twice = one_of(False, True)

    def forward(self, x):
        return super().forward(x) * (2 if self.twice.value else 1)


class Looped(Small):
    "A Python loop over blocks whose number is searched."

    def __init__(self):
        super().__init__()
        self.more = ElasticDepth([nn.Sequential(ElasticLinear(3, 3)) for _ in range(2)], one_of(1, 2))

    def forward(self, x):
        x = super().forward(x)
        for block in self.more:
            x = x + block(x)
        return x


class Deviation(Small):
    "The root of what is 0 where a channel is masked."

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).var(2, unbiased=False).sqrt())


class Detached(Small):
    "What a choice decides is detached."

    def __init__(self):
        super().__init__()
        self.scale = MixedOp([ElasticLinear(3, 3), nn.Tanh()])

    def forward(self, x):
        x = super().forward(x)
        return x + self.scale(x).detach()


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: Small(bias=True), r'in norm \(ElasticBatchNorm\): .* bias=False or masked=False'),
        (lambda: Small(padding=2), r"in conv \(ElasticConv1d\): several kernels .* need padding='same'"),
        (Asked, 'a choice that Python code reads needs exactly one'),
        (Looped, r'loop over `.steps\(\)`'),
        (Deviation, 'the gradient of .* is no finite number'),
        (Detached, 'scale.choice has no gradient'),
        (changed(lambda self, x: Small.forward(self, x).detach()), 'no gradient reaches the output'),
        (Small(), 'give a function that makes a space'),
    ],
)
def test_what_gradients_cannot_search(make, words):
    says(words, testing.check_relaxation, make)


def test_what_gradients_can_search():
    testing.check_relaxation(Small)
    testing.check_relaxation(lambda: Small((2, 1)))  # kernels of 3 and 5 are the same network on one frame


class Words(Space):
    "Numbers of words (B, T)."

    input_shape, input_dtype = (5,), torch.long

    def __init__(self):
        super().__init__()
        width = one_of(4, 6)
        self.embed, self.norm, self.head = ElasticEmbedding(7, width), ElasticLayerNorm(width), ElasticLinear(width, 3)

    def forward(self, x):
        return self.head(self.norm(self.embed(x)).mean(1))


@pytest.mark.parametrize(
    'kept',
    [
        testing.every_network_runs,
        testing.choices_are_read,
        testing.extraction_is_exact,
        testing.precision_is_kept,
        testing.check_relaxation,
    ],
    ids=lambda f: f.__name__,
)
def test_spaces_of_integers(kept):
    kept(Words)


# ---------------------------------------------------------------- costs


def counted(f=lambda unit, inputs, outputs: 1.0, name='count', **settings):
    return lambda space, input_shape: cost_of(space, input_shape, f, name=name, **settings)


@pytest.mark.parametrize(
    'make, words',
    [
        (None, r'give a function \(space, input_shape\) that makes a cost, by cost_of; found None'),
        (macs(kept, kept.input_shape), 'that makes a cost, by cost_of; found a CostModel'),
        (lambda space: None, 'the function that makes a cost raises TypeError'),
        (lambda space, input_shape: 3, 'a cost is a CostModel, such as cost_of makes; found a int'),
        (counted(lambda unit: 1.0), r'the function of count takes \(unit, inputs, outputs\).*; found \(unit\)'),
        (counted(3), r'the function of count takes \(unit, inputs, outputs\).*; found 3'),
        (counted(name=None), 'a cost has a name, by which budgets and files call it; found None'),
        (counted(name=''), "a cost has a name, by which budgets and files call it; found ''"),
        (counted(lambda *_: None), 'is to be a finite number; found None'),
        (counted(lambda *_: torch.nan), 'is to be a finite number; found nan'),
        (counted(lambda *_: -1.0, reduce='max'), 'is to be a number from 0 on; found -1.0'),
        (counted(lambda *_: -1.0), 'count: a cost is -.*; what is spent is a number from 0 on'),
        (counted(reduce='mean'), "costs of units are put together by sum or max; found 'mean'"),
    ],
)
def test_what_is_no_cost(make, words):
    says(words, testing.check_cost, make, [Small])


def test_costs_are_checked_on_a_list_of_spaces():
    says('spaces is a list of functions', testing.check_cost, macs, Small)
    says('give a function that makes a space', testing.check_cost, macs, [Small()])


# ---------------------------------------------------------------- tasks


class Distance(Task):
    "How far from the centre is a point?"

    name, input_shape, metric = 'distances', (2,), Metric('error', larger_is_better=False, unit='px')

    def __init__(self, n=8):
        x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
        self.train = self.valid = self.test = TensorDataset(x, x.norm(dim=1, keepdim=True))

    def loss(self, output, target):
        return F.mse_loss(output, target)

    def meter(self):
        return MeanAbsoluteError()


class Points(Space):
    def __init__(self, shape=(2,)):
        super().__init__()
        self.input_shape, width = shape, one_of(4, 8)
        self.layers = nn.Sequential(ElasticLinear(shape[0], width), nn.ReLU(), ElasticLinear(width, 1))

    def forward(self, x):
        return self.layers(x)


class Worded(Task):
    name, input_shape, train, valid, test, metric = 'worded', (2,), (), (), (), 'error'


class Odd(Distance):
    "A distance task, some of which is otherwise: what is given by name."

    changes = {}

    def __init__(self):
        super().__init__()
        vars(self).update(self.changes)


def odd(**changes):
    Odd.changes = changes
    return Odd()


pairs = Distance().train


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: 3, 'a task is a subclass .*; found a int'),
        (lambda: Distance, 'a task is a subclass .*; found the class Distance itself'),
        (Distance(), r'give a function that makes a task: lambda: Distance\(...\); found a Distance'),
        (Task, 'Task has no name'),
        (Worded, "the metric of Worded is a Metric; found 'error'"),
        (lambda: odd(input_shape=2), 'the input_shape of Odd is a tuple of sizes'),
        (lambda: odd(train=DataLoader(pairs)), r'Odd.train is a data set \(.*\); found a DataLoader'),
        (lambda: odd(valid=[]), 'a part of the data is empty: Odd.valid'),
        (lambda: odd(test=TensorDataset(torch.ones(3, 2))), r'an item of Odd.test is a pair \(input, target\)'),
        (lambda: odd(facts=lambda: None), r'facts\(\) of a task is a dict; found None'),
        (lambda: odd(facts=lambda: dict(mean=torch.ones(2))), r"no plain JSON: facts\(\)\['mean'\] is a Tensor"),
        (lambda: odd(facts=lambda: dict(mean=[(1,)])), r"no plain JSON: facts\(\)\['mean'\]\[0\] is a tuple"),
        (lambda: odd(facts=lambda: dict(mean=torch.nan)), r"no plain JSON: facts\(\)\['mean'\] is nan"),
        (lambda: odd(facts=lambda: {1: 2}), r'no plain JSON: facts\(\) has the key 1'),
        (lambda: odd(facts=lambda: dict(mean=1)), r'facts\(\) lacks kind, .*: begin with super\(\).facts\(\)'),
        (lambda: odd(facts=lambda: 1 / 0), 'Odd.facts raises ZeroDivisionError'),
        (lambda: odd(augment=lambda x, y: (x, y)), 'a batch of Odd raises TypeError'),
        (lambda: odd(prepare=lambda x, y, generator=None: (x[:, :1], y)), r'inputs of shape \(1,\); input_shape is'),
        (lambda: odd(loss=lambda output, target: None), 'the loss is no finite scalar: None'),
        (lambda: odd(loss=lambda output, target: (output - target).square()), 'the loss is no finite scalar'),
        (lambda: odd(loss=lambda output, target: target.mean()), 'the loss has no gradient'),
        (lambda: odd(loss=lambda output: output.mean()), 'training on Odd raises TypeError'),
        (lambda: odd(meter=lambda: None), 'Odd.evaluate raises AttributeError'),
        (lambda: odd(evaluate=lambda *_: 0.5), 'evaluate gives a dict with the metric by its name; found a float'),
        (lambda: odd(decision=lambda *_: dict(threshold=torch.ones(()))), r"decision\(\)\['threshold'\] is a Tensor"),
    ],
)
def test_what_is_no_task(make, words):
    says(words, testing.check_task, make, lambda task: Points())


@pytest.mark.parametrize(
    'make_space, words',
    [
        (None, 'Distance.default_space raises ValueError: Distance has no space of its own'),
        (Points(), r'make_space is a function\(task\) that makes a space; found a Points'),
        (lambda: Points(), 'make_space raises TypeError'),
        (lambda task: None, 'a space is an nn.Module; the function made None'),
        (lambda task: Points((3,)), r'the space takes inputs of shape \(3,\), and the task gives such of \(2,\)'),
    ],
)
def test_what_is_no_space_for_a_task(make_space, words):
    says(words, testing.check_task, Distance, make_space)


# ---------------------------------------------------------------- strategies


class Forgetful(Strategy):
    def __init__(self, rounds=3):
        pass


class Lucky(Strategy):
    "The first network within the limits; parts of the contract may be otherwise."

    gives, finds = staticmethod(lambda loop: None), staticmethod(lambda arch: arch)

    def search(self, space, task, limits, loop):
        return self.gives(loop)

    def derive(self, space, limits):
        archs = decode(space, sample(space, 100, seeded(0)))
        return self.finds(next(arch for arch in archs if all(cost(arch) <= most for cost, most in limits)))


def lucky(**changes):
    return type('Lucky', (Lucky,), {name: staticmethod(f) for name, f in changes.items()})


def fine(loop):
    return Trained([dict(step=0)], None, loop.spent)


class Asking(BlackBox):
    "A black box that asks for something."

    def __init__(self):
        super().__init__(epochs=0.5, evaluations=2)

    def ask(self, n):
        return self.asked(n)


def asking(asked):
    return type('Asking', (Asking,), dict(asked=asked))


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: 3, 'a strategy is a subclass .*; found a int'),
        (lambda: Lucky, 'a strategy is a subclass .*; found the class Lucky itself'),
        (Lucky(), r'give a function that makes a strategy: lambda: Lucky\(...\); found a Lucky'),
        (Forgetful, 'Forgetful takes a rounds and does not keep it as self.rounds'),
        (lucky(config=lambda: None), r'config\(\) of a strategy is a dict of its settings; found None'),
        (lucky(config=lambda: dict(rate=torch.ones(()))), r"no plain JSON: config\(\)\['rate'\] is a Tensor"),
        (lucky(config=lambda: dict(rate=1)), r'Lucky\(\*\*config\(\)\) raises TypeError'),
        (Strategy, r'Strategy has no search\(space, task, limits, loop\)'),
        (Lucky, r'search of Lucky gives a Trained\(history, head, loop.spent\); it gave None'),
        (lucky(gives=lambda loop: (1, 2)), r'search of Lucky gives a Trained\(.*\); it gave a tuple'),
        (lucky(gives=lambda loop: Trained(None, None, loop.spent)), 'the history of Lucky is a list of dicts'),
        (lucky(gives=lambda loop: Trained([], None, 3.0)), 'spent of Lucky is loop.spent, .*; found 3.0'),
        (lucky(gives=fine, finds=lambda arch: None), 'an architecture is a dict from choice to option; found None'),
        (lucky(gives=fine, finds=lambda arch: {}), 'the architecture lacks'),
        (asking(lambda self, n: None), 'ask of Asking gives a list of architectures .*; found NoneType'),
        (asking(lambda self, n: sample(self.space, n)), 'ask of Asking gives a list of architectures .*; found Tensor'),
        (asking(lambda self, n: [3]), 'an architecture is a dict from choice to option; found int'),
        (asking(lambda self, n: [largest(self.space)]), 'none of the networks that were asked for is within the limits'),
    ],
)
def test_what_is_no_strategy(make, words):
    says(words, testing.check_strategy, make, Small)


def test_a_search_without_training_keeps_the_contract():
    testing.check_strategy(lucky(gives=fine), Small)


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(make_space=Small()), 'give a function that makes a space'),
        (dict(make_space=Small, make_task=lambda space: None), r'make_task is a function\(space\) that makes a task'),
        (dict(make_space=Small, make_task=lambda: None), 'make_task raises TypeError'),
        (dict(make_space=Small, budget=5), 'a budget is a dict of costs'),
    ],
)
def test_what_a_strategy_is_not_tried_on(settings, words):
    says(words, testing.check_strategy, lucky(gives=fine), **settings)


# ---------------------------------------------------------------- budgets and exports


@pytest.mark.parametrize('budget', [None, {}, 5, 'macs', [('macs', 1)]])
def test_what_is_no_budget_is_refused(budget):
    with pytest.raises(ValueError, match='budget'):
        amounts(budget)


@pytest.mark.parametrize(
    'network, shape',
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(24, 3)),
            (2, 12),
        ),  # the product of both sizes is fixed, neither by itself
        (nn.Sequential(nn.Conv1d(2, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)), (2, 12)),
    ],
)
def test_networks_of_sequences_are_exported_for_the_lengths_they_take(tmp_path, network, shape):
    assert export(network.eval(), shape, tmp_path).difference < 1e-4
