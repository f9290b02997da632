"""Training: from folders of labelled chats to the artifact, its metrics and its model card."""
