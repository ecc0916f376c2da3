"""The explorer: ipywidgets controls around one anywidget view. It uses the engine, never the other way."""
