"""The wizard: a Textual face over the headless core. Importing this package imports no Textual; `app` does."""
