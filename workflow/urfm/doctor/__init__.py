"""What is there, what it unlocks, and how to get the rest.

`inventory` looks into folders; `needs` says what a data set or a checkpoint is for; `entries` puts both together, one
by one; `stock` says what can be drawn from what is there; `steps` what to get next, and how; `storage` what cached
targets take; `report` tells all of it in `lines`.
"""
