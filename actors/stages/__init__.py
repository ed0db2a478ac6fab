"""The stages, a module each: small, typed, and without Ray (`actors.contracts.Stage`).

Modules of their own, because a worker imports what its stage needs: one that loads images need not wait for torch.
"""

# In the order in which a clip passes them; `actors.records.STAGES` has their classes.
NAMES = ("load", "generate", "finish")

# Where a failure may have come about: before any stage, for a row that the manifest spoils.
FAILING_STAGES = ("manifest", *NAMES)
