"""The dataset on its store: the one place that knows where everything in it is.

layout     every path and name
records    its Parquet files of records, read
work       work files: the rows of a run that are still to be made
pass_through  the manifest's own columns, until their rows have ended
commit     how rows become records
recover    what an interrupted run left behind
shard      a share of its rows and parts
lease      one writer of a share at a time
generations  the files of a lease
processes  whether the holder of a lease still runs
beats      a run's sign of life
states     how its last runs are
speeds     how long its clips took
card       its README.md
"""
