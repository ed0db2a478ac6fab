"""Images of every arrangement, and how far their pixels are from what they must be: `python -m benchmarks.image_table`.

writers     files written byte by byte, for what no library writes
colours     profiles, and the arithmetic of their conversion
rows        the table: formats x depths x colours x alpha x profiles
"""
