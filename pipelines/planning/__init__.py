"""From the manifest to the clips still to be made.

identity    what a clip is known by
hashes      many ids in little memory
holdings    what the dataset has already
clips       rows of the manifest times variants: the clips that are wanted
planner     wanted clips that the dataset lacks, in parts and work files
"""
