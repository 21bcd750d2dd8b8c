"""What AWS starts: one module a function. Each turns its event into requests, and results into a reply.

A start is billed, and pydantic, which every function needs, is a large part of it. It is imported here with
less work: what it only names is not loaded, what its typed dictionaries say of their keys is not compiled,
and its dataclasses get no `repr` and no guard against change, so that no frozen one can be derived from them.
Nothing else changes; where a newer one needs more, the whole import is the plain one. Importing makes
hundreds of thousands of objects and no garbage, so that none is looked for until `app.start` has made the
app. What each step gives is in docs/performance.md.

Facts: pydantic 2.14.3, pydantic_core 2.50.4, annotated_types 0.8.0, typing_extensions 4.16.0.
"""

import gc
from importlib import import_module

from oncetask.alibaba.lazy_imports import left_for_later, or_plainly, plain_typed_dicts, unguarded_dataclasses

gc.disable()
import_module("typing_extensions")  # hands `TypedDict` on, to whoever asks later
with (
    or_plainly("pydantic", "pydantic_core", "annotated_types"),
    left_for_later("importlib.metadata", "secrets", "zoneinfo"),
):
    with plain_typed_dicts():
        import_module("pydantic_core")
    with unguarded_dataclasses():
        import_module("annotated_types")
        import_module("pydantic.main")
        import_module("pydantic.types")
