"""From the manifest to the clips still to be made.

identity    what a clip is known by
hashes      many ids in little memory
facts       what is to be known of a part
survey      what lies among the parts, as listings tell it
part_index  facts of parts, kept from plan to plan
holdings    what the dataset has already
clips       rows of the manifest times variants: the clips that are wanted
made_images which content images had that are gone
known_files hashes of the manifest's files, kept from plan to plan
sieve       which of the wanted clips are to be made, and the count of all others
planner     wanted clips that the dataset lacks, in parts and work files
"""
