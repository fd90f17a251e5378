"""What identifies a job, a victim and a theft: what decides a result, and the keys made from it. Imports no torch.

`keys` is the interface. `nodes` decides which parts of a config node count, `table` describes our own classes,
`foreign` those of other packages, `content` files and folders. `write_names` writes the table.
"""
