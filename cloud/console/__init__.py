"""HTTP for people: pages from the server, live where that helps, whole without JavaScript."""
