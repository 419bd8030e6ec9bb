"""What QA takes away: audit trails and history records."""
