"What somebody tries first who has read the notebooks only: what is wrong is said in a sentence, what is right goes through."

import pytest
from torch import nn
from nas_suite import testing
from nas_suite.choices import one_of
from nas_suite.front.budgets import amounts
from nas_suite.front.export import export
from nas_suite.layers import ElasticLinear
from nas_suite.strategies.base import Strategy
from nas_suite.tasks.base import Task


class Shapeless(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = ElasticLinear(one_of(2, 4), 1)


class Worded(Task):
    name, input_shape, train, valid, test, metric = 'worded', (2,), (), (), (), 'error'


class Forgetful(Strategy):
    def __init__(self, rounds=3):
        pass


@pytest.mark.parametrize(
    'check, make, words',
    [
        (testing.check_space, lambda: None, 'a space is an nn.Module'),
        (testing.check_space, Shapeless, 'Shapeless has no input_shape'),
        (testing.check_task, lambda: 3, 'a task is a subclass'),
        (testing.check_task, Task, 'Task has no name'),
        (testing.check_task, Worded, "the metric of Worded is a Metric; found 'error'"),
        (testing.check_strategy, lambda: 3, 'a strategy is a subclass'),
        (testing.check_strategy, Forgetful, 'takes a rounds and does not keep it'),
    ],
)
def test_contracts_say_what_is_missing(check, make, words):
    with pytest.raises(AssertionError, match=words):
        check(make)


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
    assert export(network.eval(), shape, tmp_path) < 1e-4
