"""Imports made cheap: what is not used need not be loaded or made, and what is loaded is no garbage.

    with uncollected(), left_for_later("aiohttp"):
        import darabonba.core       # `import aiohttp` gives it a stand-in
    darabonba.core.aiohttp.ClientSession   # loads the real one

Python's own `importlib.util.LazyLoader` does the same for whole modules; `from aiohttp import ClientResponse`
loads at once there. Code that needs more inside the block than names meets `NeededAtOnce`: import it
without a block then. Who is in need of what, and what that gives, is in docs/performance.md.
"""

import gc
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class NeededAtOnce(ImportError):  # noqa: N818 - named for what happened
    """A stand-in is not enough: something of the package was used, not only named, inside the block."""


@contextmanager
def left_for_later(*names: str) -> Iterator[None]:
    """Inside the block these modules, where they are not loaded yet, are stand-ins.

    Afterwards, a module that holds one gets the real module at the first use; one that imports it, at once.
    """
    finder = _StandIns(frozenset(names) - sys.modules.keys())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.open = False
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]:
            del sys.modules[name]


@contextmanager
def kept_out(*names: str) -> Iterator[None]:
    """Inside the block these modules, where they are not loaded yet, cannot be imported, as if they were not
    there; afterwards they can.
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type] # None: Python's own sign for it
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage is looked for inside the block, and never again among what stays from it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _StandIn(ModuleType):
    """A module that is named now and loaded later."""

    def __init__(self, name: str, finder: "_StandIns") -> None:
        super().__init__(name)
        self._finder = finder

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the real module holds
        attribute = _Attribute(self.__name__, name)
        if not self._finder.open:
            return attribute.real()
        if name.startswith("__"):  # the import system looks for these
            raise AttributeError(name)
        return attribute


class _Attribute:
    """A class or function of such a module: what `from … import` binds, for good, and an annotation names."""

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def real(self) -> Any:  # noqa: ANN401 - whatever it is
        """The real one, its module loaded. Raises NeededAtOnce inside the block."""
        module, name = self._place
        if isinstance(sys.modules.get(module), _StandIn):
            raise NeededAtOnce(f"{module}.{name} is used while it is imported", name=module)
        return getattr(importlib.__import__(module, fromlist=[name]), name)

    def __call__(self, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - what the real one returns
        return self.real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what the real one holds
        return getattr(self.real(), name)

    def __mro_entries__(self, _bases: tuple[object, ...]) -> tuple[type, ...]:
        """A class statement that derives from it: of the real one, which has to be there."""
        return (self.real(),)


class _StandIns:
    """Makes the stand-ins of some modules and of all that is in them, while it is open."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.open = True

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Whose import alone takes 4 ms."""
        ours = any(fullname == name or fullname.startswith(f"{name}.") for name in self._names)
        if not ours:
            return None
        return ModuleSpec(fullname, self, is_package=True)  # type: ignore[arg-type] # a loader by its methods

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name, self)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""
