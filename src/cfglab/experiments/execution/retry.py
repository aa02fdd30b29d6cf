"""A batch that fails is drawn in halves, and those again, down to single images.

Out of memory, it goes on with what fits; a cell that the model cannot draw fails alone. Every batch is tried whole
first, so what is drawn depends on the batch and the machine, not on what the session did before.
"""

import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError, NotFinite
from cfglab.experiments.spec.cell import Cell

if TYPE_CHECKING:
    from cfglab.experiments.backends.pipeline import BatchResult


def draw_in_pieces(
    pipe: Any, batch: Sequence[Cell]
) -> "Iterator[tuple[Sequence[Cell], BatchResult | str | NotFinite]]":
    """The batch as one piece where the model can draw it, or in smaller ones; a text is the traceback of a single cell,
    NotFinite one whose prediction became NaN, as it would every time.

    An image of a smaller piece is within 1e-4 of that of the whole batch, before it is rounded to bytes: kernels round
    differently at other batch sizes. Raises any other InputError, which is about what was asked for, at once.
    """
    found = _tried(pipe, batch)
    if isinstance(found, str | NotFinite) and len(batch) > 1:  # the failed attempt is over, its tensors are let go of
        half = (len(batch) + 1) // 2
        yield from draw_in_pieces(pipe, batch[:half])
        yield from draw_in_pieces(pipe, batch[half:])
    else:
        yield batch, found


def _tried(pipe: Any, batch: Sequence[Cell]) -> "BatchResult | str | NotFinite":
    from cfglab.experiments.backends.pipeline import draw

    try:
        return draw(pipe, batch)
    except NotFinite as error:
        return error.with_traceback(None)
    except InputError:
        raise
    except Exception as error:
        return "".join(traceback.format_exception(error))
