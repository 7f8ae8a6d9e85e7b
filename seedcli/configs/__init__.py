"""Every option, one file a verb; nothing here loads torch."""
