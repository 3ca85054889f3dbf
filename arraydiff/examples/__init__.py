"""Worked examples: the XPCS model and its fit, which ``arraydiff demo`` runs."""
