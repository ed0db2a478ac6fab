"""The stages as Ray calls them, a module each: thin, with timing and failures in one place.

A row is a dict, which travels in two columns (`actors.stages.row`). Whatever goes wrong with a row is written into its
`stage`, `error_type` and `error` (all "" while the row is well) and the row goes round the later stages; nothing here
raises for a single row. Each stage's docstring lists what it takes and gives.

Modules of their own, because a worker imports what its stage needs: one that loads images need not wait for torch.
"""
