"""Which images occur twice: within data sets, across them, and between pre-training and test.

`perceptual` describes a picture in bits that survive copying, `near_duplicates` searches a million of them and makes
patients of what belongs together (for the manifest), `duplicates` finds the pairs, `seen` counts and `findings` lists
them; `audit` is the stage.
"""
