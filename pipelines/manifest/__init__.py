"""Any manifest as a stream of Arrow tables with one fixed schema; never the whole manifest in memory.

sources       which files a source stands for
files         what a file of a manifest is; `formats` opens them, a module each
columns       which columns hold what
image_columns  which of them holds the images: by names (column_names) and by the first rows (looking, pictures)
parquet_images  where the images in a Parquet file lie
spellings     what one image may be called
image_identity  what an image is known by, where that is not its URI
rows          columns as the job needs them, faults marked
image_uris    which image URIs may be fetched
read          all of it together, until the schema is known
reader        the rows, in chunks of that schema
"""
