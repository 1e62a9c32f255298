"""What each rule reads of the configuration, and nothing else: an edit reruns exactly the rules that read it.

Titles, colours and resources are left out wherever no number depends on them. What has an order is a list, because
canonical JSON sorts the keys of objects.
"""

from urfm.plan.settings import cost, data, figures, models, pretraining, tables

__all__ = ["cost", "data", "figures", "models", "pretraining", "tables"]
