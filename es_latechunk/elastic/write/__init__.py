"""Writing an index: bulk actions, a load that owns the index, and aliases that are switched to a new one."""
