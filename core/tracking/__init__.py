"""People of one camera followed from frame to frame by their motion; looks only decide who has come back."""
