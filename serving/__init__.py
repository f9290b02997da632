"""What serves: HTTP, dialogs, scoring, the page, settings, logs and metrics."""
