"""How many channels what RIFE's networks work on has; without PyTorch, so that the driver can know the variants."""

RGB = 3
FLOW = 4  # (x, y) to the first frame, then (x, y) to the second
MASK = 1
