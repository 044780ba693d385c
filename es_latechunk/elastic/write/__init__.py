"""Writing an index: bulk actions, loads that own an index, and aliases that are swapped to a new one."""
