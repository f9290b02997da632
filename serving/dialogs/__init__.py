"""What remembers dialogs: messages come one at a time, and each is scored with those before it."""
