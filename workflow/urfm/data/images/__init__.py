"""Pictures: decoded once from files that nobody vouches for, and read from then on out of a store of plain pixels.

`decode` opens files, those of sequences with `nifti`; `workers` keeps a file that crashes or hangs its decoder from
stopping a run; `build` is the stage that writes a data set's store and `store` reads it, without any decoder.
`pixels` is what they pass to one another.
"""
