"""Masks of sequences, as they stand beside the values: `NAME_mask`, or `NAME_length`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from fusion_bench.errors import UserError


def step_mask(name: str, arrays: Mapping[str, Any], shape: tuple[int, int]) -> Bool[np.ndarray, "example token"]:
    """Returns where a sequence has a step: as its mask or its length says, everywhere without either.

    Args:
      name: of the sequence.
      arrays: has NAME_mask, bool [example, token], or NAME_length, whole numbers [example], if there are such.
      shape: the numbers of examples and of steps.

    Raises:
      UserError: both are there, one is not as above, or an example has no step.
    """
    count, steps = shape
    given = [key for key in (f"{name}_mask", f"{name}_length") if key in arrays]
    if len(given) == 2:
        raise UserError(f"{' and '.join(given)} exclude each other; give one of them")
    if not given:
        return np.ones(shape, bool)
    (key,) = given
    array = np.asarray(arrays[key])
    if key == f"{name}_mask":
        is_right = array.shape == shape and array.dtype.kind in "biuf" and bool(np.isin(array, (0, 1)).all())
        wanted = f"bool [{count}, {steps}]"
    else:
        wanted, is_right = f"whole numbers [{count}]", array.dtype.kind in "iu" and array.shape == (count,)
    if not is_right:
        raise UserError(f"{key} is {array.dtype} {list(array.shape)}; {wanted} is right")
    if key == f"{name}_length":
        if array.size and array.max() > steps:
            raise UserError(f"{key} has {array.max()}, but {name} has {steps} steps")
        array = np.arange(steps) < array[:, None]
    empty = np.flatnonzero(~array.any(1))
    if len(empty):
        raise UserError(f"{key}: example {empty[0]} has no step; each needs one at least")
    return array.astype(bool)
