"A network for the command that makes one faster."

from torch import nn


def make():
    layers = nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    return nn.Sequential(*layers).eval()
