"""The stages, a module each: small, typed, and without Ray (`actors.contracts.Stage`).

Modules of their own, because a worker imports what its stage needs: one that loads images need not wait for torch.
"""
