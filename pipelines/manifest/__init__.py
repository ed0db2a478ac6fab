"""Any manifest as a stream of Arrow tables with one fixed schema; never the whole manifest in memory.

sources       which files a source stands for
files         what a file of a manifest is; `formats` opens them, a module each
columns       which columns hold what
rows          columns as the job needs them, faults marked
image_uris    which image URIs may be fetched
reader        all of it together
"""
