"""Data sets and how to get them: one module a data set, each with a function `load` that gives (train, test).

Nothing is downloaded without being asked. Each module's docstring says where the data comes from, its licence, its
split and its checks."""
