"""What is known of tries beyond the process that makes them, so that no clip is tried for ever and none is lost.

ledger      what was begun with and not ended, written down where no worker's death reaches it
spent       where workers' time went that no finished clip tells of
remote_ledger  the ledger in a Ray actor, and how driver and workers reach it
guard       one stage's try at one clip, with all that may go wrong
watchdog    ends a process whose call does not come to an end
nodes       which nodes are lost, or about to be: what ended with them is no death
idle        ends workers that have nothing to do where their node goes away
orphans     keeps workers from outliving their node
"""
