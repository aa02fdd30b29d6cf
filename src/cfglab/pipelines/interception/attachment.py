"""Attaching guidance to a pipeline, and restoring the pipeline.

Its networks are intercepted (`intercepted`). Four methods are replaced on classes: the pipeline's `__call__`,
`__setattr__` and `encode_prompt`, and `cache_context` of its networks. Each of them looks up whether its object is
guided. Objects keep their classes, and a class gets its methods back when no object of it is guided any more."""

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from cfglab.denoising.intercepted import ROUTE, Interception, intercept, is_intercepted_by, restore
from cfglab.errors import InputError
from cfglab.pipelines.interception.guided_pipeline import GuidedPipeline
from cfglab.pipelines.interception.pipeline_run import PipelineRun, run_pipeline
from cfglab.pipelines.interception.wrapped_modules import core_of

_LOCK = threading.RLock()
_ATTACHMENTS: "WeakKeyDictionary[Any, _Attachment]" = WeakKeyDictionary()
_PATCHES: "dict[tuple[type, str], _Patch]" = {}


class _Attachment:
    """What one guided pipeline has put in place."""

    def __init__(self, pipe: Any, guided: GuidedPipeline) -> None:
        self.guided = guided
        self.modules: dict[int, tuple[weakref.ref[nn.Module], Interception, bool]] = {}
        self.classes: list[tuple[type, str]] = []
        self.forget = weakref.finalize(pipe, _release, self)
        self.forget.atexit = False


class _Patch:
    """A method of a class that is replaced, and by how many guided pipelines."""

    def __init__(self, kind: type, name: str, make: Callable[[type, Any], Any]) -> None:
        self.original = vars(kind).get(name)
        self.replacement = make(kind, self.original)
        self.users = 0
        setattr(kind, name, self.replacement)


def check_free(pipe: Any) -> None:
    """Check that a pipeline is not guided. Another pipeline that shares its networks may be guided.

    Args:
        pipe: The pipeline.

    Raises:
        InputError: It is guided already.
    """
    if guided_by(pipe) is not None:
        raise InputError(
            f"this {type(pipe).__name__} is guided already: one guide() at a time; leave the other one first, or "
            "give it a list with one guidance per image."
        )


def swap(pipe: Any, guided: GuidedPipeline) -> None:
    """Guide a pipeline until `swap_back`, or until the pipeline is gone.

    Args:
        pipe: The pipeline.
        guided: Its guidance.

    Raises:
        InputError: It is guided already.
    """
    with _LOCK:
        check_free(pipe)
        hold = _ATTACHMENTS[pipe] = _Attachment(pipe, guided)
        try:
            _patch(hold, type(pipe), "__call__", _pipe_call)
            _patch(hold, type(pipe), "__setattr__", _pipe_setattr)
            if hasattr(type(pipe), "encode_prompt"):
                _patch(hold, type(pipe), "encode_prompt", _pipe_encode_prompt)
            refresh(pipe)
        except BaseException:  # an interrupt too: all of it or nothing
            swap_back(guided)
            raise


def swap_back(guided: GuidedPipeline) -> None:
    """Restore a pipeline, its networks and its classes.

    Args:
        guided: The guidance that was given to `swap`.
    """
    with _LOCK:
        for pipe, hold in list(_ATTACHMENTS.items()):
            if hold.guided is guided:
                del _ATTACHMENTS[pipe]
                hold.forget.detach()
                _release(hold)


def guided_by(pipe: Any) -> GuidedPipeline | None:
    """The guidance of a pipeline at the moment.

    Args:
        pipe: Any object.

    Returns:
        The guidance; None if it is not guided.
    """
    try:
        hold = _ATTACHMENTS.get(pipe)
    except TypeError:  # of no pipeline: it cannot be referred to weakly
        return None
    return None if hold is None else hold.guided


def refresh(pipe: Any) -> None:
    """Intercept the networks that a guided pipeline has now, and release all others.

    Args:
        pipe: The pipeline.
    """
    with _LOCK:
        hold = _ATTACHMENTS.get(pipe)
        if hold is None:
            return
        profile, guard = hold.guided.profile, hold.guided.changes_network
        parts = (getattr(pipe, name, None) for name in (*profile.denoisers, *profile.helpers))
        networks = {id(part): part for part in parts if isinstance(part, nn.Module)}
        for key, (module_ref, interception, guarded) in list(hold.modules.items()):
            module = module_ref()
            if module is not networks.get(key) or not is_intercepted_by(module, interception):
                del hold.modules[key]
                if module is not None:
                    restore(module, interception, guard=guarded)
        for key, module in networks.items():
            if key not in hold.modules:
                hold.modules[key] = weakref.ref(module), intercept(module, guard=guard), guard
                _patch_contexts(hold, type(core_of(module)))


def _release(hold: _Attachment) -> None:
    with _LOCK:
        for module_ref, interception, guarded in hold.modules.values():
            module = module_ref()
            if module is not None:
                restore(module, interception, guard=guarded)
        hold.modules.clear()
        for kind, name in hold.classes:
            _unpatch(kind, name)
        hold.classes.clear()


def _patch_contexts(hold: _Attachment, network: type) -> None:
    kind = next((kind for kind in network.__mro__ if "cache_context" in vars(kind)), None)
    if kind is not None and (kind, "cache_context") not in hold.classes:
        _patch(hold, kind, "cache_context", _recording_context)


def _patch(hold: _Attachment, kind: type, name: str, make: Callable[[type, Any], Any]) -> None:
    patch = _PATCHES.get((kind, name))
    if patch is None:
        patch = _PATCHES[kind, name] = _Patch(kind, name, make)
    patch.users += 1
    hold.classes.append((kind, name))


def _unpatch(kind: type, name: str) -> None:
    """The last one takes the replacement away, unless somebody has replaced it in turn: then it passes calls on."""
    patch = _PATCHES[kind, name]
    patch.users -= 1
    if patch.users == 0:
        del _PATCHES[kind, name]
        if vars(kind).get(name) is patch.replacement:
            if patch.original is None:
                delattr(kind, name)
            else:
                setattr(kind, name, patch.original)


def _pipe_call(kind: Any, original: Any) -> Any:
    @functools.wraps(original or kind.__call__)
    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        plain = super(kind, self).__call__ if original is None else original.__get__(self)
        guided = guided_by(self) if type(self) is kind else None  # else a subclass calls its parent's
        if guided is None:
            return plain(*args, **kwargs)
        refresh(self)
        return run_pipeline(guided, plain, args, kwargs)

    return __call__


def _pipe_setattr(kind: Any, original: Any) -> Any:
    @functools.wraps(original or kind.__setattr__)
    def __setattr__(self: Any, name: str, value: Any) -> None:
        plain = super(kind, self).__setattr__ if original is None else original.__get__(self)
        plain(name, value)
        guided = guided_by(self)
        if guided is not None and name in (*guided.profile.denoisers, *guided.profile.helpers):
            refresh(self)

    return __setattr__


def _pipe_encode_prompt(kind: Any, original: Any) -> Any:
    """The arguments with which a pipeline encodes its own prompt are those of further prompts."""

    @functools.wraps(original or kind.encode_prompt)
    def encode_prompt(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        run = getattr(ROUTE.get(), "__self__", None)
        if isinstance(run, PipelineRun) and run.pipe is self:
            run.encodings.note(args, kwargs)
        plain = super(kind, self).encode_prompt if original is None else original.__get__(self)
        return plain(*args, **kwargs)

    return encode_prompt


def _recording_context(kind: type, original: Any) -> Any:  # noqa: ARG001
    """`cache_context("cond")` around a call says whose call it is."""

    @functools.wraps(original)
    @contextmanager
    def cache_context(self: Any, name: str, *args: Any, **kwargs: Any) -> Iterator[None]:
        run = getattr(ROUTE.get(), "__self__", None)
        with original(self, name, *args, **kwargs):
            if not isinstance(run, PipelineRun) or not run.has(self):
                yield
                return
            outside, run.context = run.context, name
            try:
                yield
            finally:
                run.context = outside

    return cache_context
