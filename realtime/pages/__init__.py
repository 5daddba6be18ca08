"""Pages that are not the admin's: the live console, the inbox for webhooks, and the documents."""
