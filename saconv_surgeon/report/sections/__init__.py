"""Parts of reports: from records to lines and tables, without a format."""
