"""What is there, what it unlocks, and how to get the rest."""
