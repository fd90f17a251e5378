"""Which job is this, which victim, which theft: what decides a result, and the keys made from it. Imports no torch.

`keys` holds what others call; `nodes` says what of a config node counts, `table` what is known of our own classes,
`foreign` what can be seen of other people's, `content` what files and folders hold. `write_names` writes the table.
"""
