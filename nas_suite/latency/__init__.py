"""Latency on the user's own device: measuring it, keeping it, calibrating sums of it."""
from .measuring import *
