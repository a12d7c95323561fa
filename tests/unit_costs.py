"Two costs that nobody registered: the energy of an inference, and the most memory that activations take at once."

import math
from torch import nn
from nas_suite.costs import cost_of, count_macs

picojoule = dict(
    mac=4.6, byte=640.0
)  # of 32-bit arithmetic, and of a byte from memory (Horowitz, 2014: orders of magnitude)


def _bytes(shapes) -> int:
    return 4 * sum(math.prod(shape) for shape in shapes)


def _macs(unit, inputs) -> int:
    "Of a unit with one input; a table that is looked up multiplies nothing."
    return 0 if len(inputs) != 1 or isinstance(unit, nn.Embedding) else count_macs(unit, inputs[0][1:])


def energy(space, input_shape):
    "Millijoules of one inference: its multiply-accumulates, and the bytes of weights and activations that move."

    def of_unit(unit, inputs, outputs):
        moved = _bytes(inputs) + _bytes(outputs) + 4 * sum(p.numel() for p in unit.parameters())
        return 1e-9 * (picojoule['mac'] * _macs(unit, inputs) + picojoule['byte'] * moved)

    return cost_of(space, input_shape, of_unit, name='energy_mj', unit='mJ')


def peak_memory(space, input_shape):
    "The most bytes that the inputs and outputs of one unit take together: what a device without memory to spare must have."

    def of_unit(unit, inputs, outputs):
        return _bytes(inputs) + _bytes(outputs)

    return cost_of(space, input_shape, of_unit, name='peak_bytes', unit='B', reduce='max')
