"""What a network would do on an H100 or an H200, counted and predicted without either.

`pretended` makes torch believe in an H100, `networks` has what is compiled, `compiled` lowers it by Inductor, Triton
and ptxas and keeps every kernel and every call of a library. `sectors` runs the kernels' index arithmetic in NumPy,
`work` says what each does, `rates` how long that takes, `table` prints it.
"""
