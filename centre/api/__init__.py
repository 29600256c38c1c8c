"""What programs ask the centre over HTTP."""
