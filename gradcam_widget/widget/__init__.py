"""The explorer: ipywidgets controls around one anywidget view. It may import the engine; the engine never imports it."""
