"""What keeps a dataset whole that lives for months and is touched by people: `stillreel verify` and `compact`.

kinds      what can be wrong, and what mends it
findings   what is wrong, counted, with examples
places     what lies in the folders of `data/`
looking    one part looked at: its records beside its files
whole      the whole dataset looked at
doubles    clips that stand in more than one place
leases     who writes, or did
judging    what a video says of itself
moving     files that change their places, and rows that are rewritten
repairing  what `--repair` does, in which order
compacting small parts become one
extending  records of an older version get the columns that they lack
showing    what is printed

It starts no Ray, and none of it is imported before its command is called.
"""
