"""diagtop: the screens. A headless core (session, views, details, evidence) under a Textual face."""
