"""How far one driver goes: simulated GPUs on Ray's real head, and a model of what was measured, extended beyond."""
