"""Simulated ultrasound: a coarse scanner, organs to put in front of it, and the folders of public archives.

`scanner` makes B-mode pictures of tissue; `anatomy` has the shapes tissue is drawn with; `superficial`, `abdomen`,
`pelvis`, `heart` and `fetus` paint organs; `pictures` chooses the machine and writes on the screen; `downstream` and
`pretraining` give pictures the names, tables and defects of published archives, with what `archive` has for all.
"""
