"""From raw archives to what training reads: manifests, stores of decoded pictures, splits and pre-training sets.

`datasets` has a reader for each archive; `records` is what a reader finds and `manifest` what its files hold. `images`
decodes them once into a store. `splits` divides a task's images, `leakage` finds those that occur twice, `pretrain_set`
chooses a run's. `counts` compares with what is expected, `outlines` reads drawn lesions; `views` and `streams` are the
crops and random numbers that targets and training share.
"""
