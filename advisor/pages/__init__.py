"""What is shown: versioned documents for scripts, pages and charts for people."""
