"""A model whose features are known, and a dataset of labels alone."""

import types

import numpy as np

from fusion_bench.diagnostics.model import Model, RunKey

CLASSES, COUNT = 4, 800
LABELS = np.random.default_rng(0).integers(0, CLASSES, COUNT)
SPLITS = dict(zip(("train", "validation", "test"), np.split(np.arange(COUNT), (300, 400)), strict=True))


class Known(Model):
    """Has the features `table[modality]`, [example, feature]; without encoders of the modalities named in `without`."""

    def __init__(self, table, run=None, *, companions=None, cache=None, classes=LABELS, captions=None, without=()):
        self.dataset = types.SimpleNamespace(labels=LABELS, classes=classes, splits=SPLITS, captions=captions)
        self.modalities, self.table, self.without = tuple(sorted(table)), table, without
        self.run, self.companions = run or RunKey("own", "concat", 0), companions or {}
        self.cache = {} if cache is None else cache

    def features(self, modality, indices):
        return None if modality in self.without else self.table[modality][indices].astype(np.float32)


def telling(labels, *, noise, seed=0, features=6):
    """Returns features whose first ones are the label, under noise."""
    return np.eye(CLASSES, features)[labels] + noise * np.random.default_rng(seed).normal(size=(len(labels), features))


class Loads(dict):
    """Companions by key, with their models; counts how often each is loaded."""

    def __init__(self, models):
        self.count = dict.fromkeys(models, 0)

        def loads(key):
            self.count[key] += 1
            return models[key]

        super().__init__({key: lambda key=key: loads(key) for key in models})
