"""``mmea compare``: attention layers side by side."""
